"""Checkpoints of a training."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.disk import atomic_write


@dataclass
class Position:
    """The next step to do: epoch, phase within it, step within that; all counted from 0."""

    epoch: int = 0
    phase: int = 0
    step: int = 0


@dataclass
class Checkpoint:
    """Everything that a run needs to resume with the same numbers; order, views and random states follow from the position.

    `held` is the state of the modules that the defense holds, `partial` that of the unfinished epoch's meter.
    """

    position: Position
    model: dict[str, Any]
    optimizer: dict[str, Any]
    defense: dict[str, Any]
    held: dict[str, Any]
    curves: list[dict[str, Any]] = field(default_factory=list)
    partial: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to `path`, and keep the checkpoint there as the previous one."""
        with suppress(FileNotFoundError):
            path.replace(previous(path))
        with atomic_write(path) as stream:
            torch.save({**vars(self), "position": asdict(self.position)}, stream)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint; None if it is missing or damaged. Never runs code from the file."""
        if not path.exists():
            return None
        try:
            if zipfile.ZipFile(path).testzip():  # verifies checksums, which torch does not
                return None
            state = torch.load(path, weights_only=True, map_location="cpu")
            return cls(**{**state, "position": Position(**state["position"])})
        except Exception:  # damaged files fail in many ways
            return None

    @classmethod
    def newest(cls, path: Path) -> tuple[Checkpoint | None, list[str]]:
        """The newest readable checkpoint of the two, and the names of damaged ones, which are deleted."""
        damaged: list[str] = []
        for each in (path, previous(path)):
            found = cls.load(each)
            if found is not None:
                return found, damaged
            if each.exists():
                damaged.append(each.name)
                each.unlink()
        return None, damaged

    @staticmethod
    def remove(path: Path) -> None:
        for each in (path, previous(path)):
            each.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """The path of the checkpoint before that at `path`."""
    return path.with_suffix(f".previous{path.suffix}")
