"""Whether there is memory for one more cell beside those that run.

Each needs it within seconds of its start, so what is free when it starts says little: what all of them need is added up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from bench.config import RunSpec
from bench.data.files import MEMORY_BUDGET
from bench.matrix.workspace import Workspace
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.training.memory import free_bytes, step_bytes

_CPU = torch.device("cpu")


class Room:
    """Of the machine's memory; on a GPU a cell sees for itself whether it fits."""

    def __init__(self, device: torch.device) -> None:
        self._steps_here = device.type == "cpu"
        self._known: dict[tuple[str, int, str], int] = {}

    def holds(self, processes: Iterable[tuple[int | None, float]]) -> bool:
        """Whether processes, by their ids (None is one that is yet to start), can have so many bytes each, all together."""
        known = [(_resident(process) if process else 0.0, needed) for process, needed in processes]
        lacking = sum(max(needed - taken, 0) for taken, needed in known)
        return lacking <= free_bytes(_CPU)

    def needed(self, spec: RunSpec, workspace: Workspace) -> float:
        """Bytes that a process takes for a cell at the least: what this one has, images that are kept, and a step."""
        bundle = workspace.bundle
        sizes = [len(pairs) * 3 * bundle.image_size**2 for pairs in (bundle.train, bundle.holdout, bundle.test)]
        images = sum(size for size in sizes if size <= MEMORY_BUDGET)
        return _resident(os.getpid()) + images + self._step(spec, len(bundle.train))

    def _step(self, spec: RunSpec, pairs: int) -> int:
        if not self._steps_here:
            return 0
        name, size, precision = spec.model.name, min(spec.train.batch_size, pairs), spec.train.precision
        if (name, size, precision) not in self._known:
            encoder = ClipEncoder(factory.create(name, 0), precision, _CPU)
            self._known[name, size, precision] = step_bytes(encoder, factory.image_size(name), size)
        return self._known[name, size, precision]


def _resident(process: int) -> float:
    """Bytes of memory that a process has; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0.0
