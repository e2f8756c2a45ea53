"""Where a training stands, on disk."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.matrix.store import atomic


@dataclass
class Position:
    """The next step to do: epoch, phase within it, step within that; all counted from 0."""

    epoch: int = 0
    phase: int = 0
    step: int = 0


@dataclass
class Checkpoint:
    """Everything a run needs to go on with the same numbers; order, views and random states follow from the position."""

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
        """Write it to `path`; what was there is kept as the checkpoint before it."""
        with suppress(FileNotFoundError):
            path.replace(before(path))
        with atomic(path) as stream:
            torch.save({**vars(self), "position": asdict(self.position)}, stream)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint, or None where there is none that can be read. Never runs code from the file."""
        if not path.exists():
            return None
        try:
            if zipfile.ZipFile(path).testzip():  # compares checksums, which torch does not
                return None
            state = torch.load(path, weights_only=True, map_location="cpu")
            return cls(**{**state, "position": Position(**state["position"])})
        except Exception:  # damaged bytes fail in many ways, and all mean the same
            return None

    @classmethod
    def newest(cls, path: Path) -> tuple[Checkpoint | None, list[str]]:
        """The newest of the two at `path` that can be read, and the names of those that cannot, which are deleted."""
        damaged: list[str] = []
        for each in (path, before(path)):
            found = cls.load(each)
            if found is not None:
                return found, damaged
            if each.exists():
                damaged.append(each.name)
                each.unlink()
        return None, damaged

    @staticmethod
    def remove(path: Path) -> None:
        for each in (path, before(path)):
            each.unlink(missing_ok=True)


def before(path: Path) -> Path:
    """Where the checkpoint before the one at `path` lies."""
    return path.with_suffix(f".previous{path.suffix}")
