"""What is asked of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from bench.errors import UserError


@dataclass(frozen=True)
class Order:
    """How to run, the same for all cells of a command.

    `request` is the key of one that the command wrote to the store, None where workers are on the same machine; `weights` are
    files of given weights by their digests.
    """

    store: Path
    request: str | None
    plugins: tuple[str, ...]
    device: str
    threads: int
    retry_failed: bool
    checkpoint_seconds: float
    command: tuple[str, ...]
    track: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    grad_checkpointing: bool = False
    deterministic: bool = False


@dataclass(frozen=True)
class Place:
    """A cluster, and what of it a cell takes."""

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0

    @classmethod
    def of(cls, executor: str, address: str | None, cpus: int | None, gpus: float | None) -> Place | None:
        """From the options; None for the local executor. Raises UserError when they do not fit, or Ray is not installed."""
        given = {"--ray-address": address, "--cpus-per-cell": cpus, "--gpus-per-cell": gpus}
        if executor == "local":
            for option, value in given.items():
                if value is not None:
                    raise UserError(f"{option} {value}: only --executor ray has it; give both or neither")
            return None
        if find_spec("ray") is None:
            raise UserError("--executor ray: Ray is not installed here; pip install 'clip-poison-bench[ray]'")
        return cls(address or cls.address, cpus or cls.cpus, gpus or cls.gpus)
