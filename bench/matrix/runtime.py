"""How cells are run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from bench.training.ranks import Ranks
from bench.training.trainer import CHECKPOINT_SECONDS, TrainingProgress


class CellProgress(TrainingProgress, Protocol):
    """Hears of steps, and before them how many of the captions are tokenised, where they had not been before."""

    def tokenised(self, captions: int, done: int) -> None: ...


@dataclass(frozen=True)
class Runtime:
    """How to run, as opposed to what: none of it changes the identity of a run."""

    device: torch.device
    progress: CellProgress
    stop: Callable[[], bool]
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    track: str | None = None
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv[1:]))
    ranks: Ranks = field(default_factory=Ranks)
    grad_checkpointing: bool = False
    deterministic: bool = False
