"""Whether memory is enough for one more cell.

A cell takes its memory within seconds of its start, so the memory that is free at that moment says little. Instead, the
requirements of all cells are added up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from bench.config import RunSpec
from bench.data import pixel_file
from bench.data.files import MEMORY_BUDGET
from bench.matrix.workspace import Workspace
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.training.memory import free_bytes, step_bytes

_CPU = torch.device("cpu")


class CellMemory:
    """Host memory of cells. Cells on a GPU check the memory of the GPU themselves."""

    def __init__(self, device: torch.device) -> None:
        self._trains_on_cpu = device.type == "cpu"
        self._step_bytes: dict[tuple[str, int, str], int] = {}

    def fits(self, processes: Iterable[tuple[int | None, float]]) -> bool:
        """Whether all processes, given as (process id or None if not started, bytes required), fit together."""
        resident = [(_resident(process) if process else 0.0, required) for process, required in processes]
        missing = sum(max(required - taken, 0) for taken, required in resident)
        return missing <= free_bytes(_CPU)

    def required(self, spec: RunSpec, workspace: Workspace) -> float:
        """A lower bound of a cell's bytes: the memory of this process, cached images, and a training step."""
        bundle = workspace.bundle
        splits = [pairs.images for pairs in (bundle.train, bundle.holdout, bundle.test)]
        sizes = [len(images) * 3 * bundle.image_size**2 for images in splits if not pixel_file.holds(images)]
        images = sum(size for size in sizes if size <= MEMORY_BUDGET)
        return _resident(os.getpid()) + images + self._step(spec, len(bundle.train))

    def _step(self, spec: RunSpec, pairs: int) -> int:
        if not self._trains_on_cpu:
            return 0
        key = name, size, precision = spec.model.name, min(spec.train.batch_size, pairs), spec.train.precision
        if key not in self._step_bytes:
            encoder = ClipEncoder(factory.create(name, 0), precision, _CPU)
            self._step_bytes[key] = step_bytes(encoder, factory.image_size(name), size)
        return self._step_bytes[key]


def _resident(process: int) -> float:
    """The resident set size of a process in bytes; 0 if unknown."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0.0
