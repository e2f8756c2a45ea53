"""Where a training stands, on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.matrix.store import write_with


@dataclass
class Position:
    """The next step to do: epoch, phase within it, step within that; all counted from 0."""

    epoch: int = 0
    phase: int = 0
    step: int = 0


@dataclass
class Checkpoint:
    """Everything a run needs to go on with the same numbers; order and augmentations follow from the position."""

    position: Position
    model: dict[str, Any]
    optimizer: dict[str, Any]
    defense: dict[str, Any]
    curves: list[dict[str, Any]] = field(default_factory=list)
    partial: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        state = {**vars(self), "position": asdict(self.position)}
        write_with(path, lambda temporary: torch.save(state, temporary))

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """The checkpoint, or None where there is none that can be read. Never runs code from the file."""
        if not path.exists():
            return None
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            return cls(**{**state, "position": Position(**state["position"])})
        except Exception:  # damaged bytes fail in many ways, and all mean the same
            return None
