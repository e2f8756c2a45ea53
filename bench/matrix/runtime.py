"""Runtime options of cells."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from bench.training.progress import TrainingProgress
from bench.training.ranks import Ranks
from bench.training.trainer import CHECKPOINT_SECONDS


class CellProgress(TrainingProgress, Protocol):
    """Callbacks of training, and of tokenising the captions unless their tokens are cached."""

    def tokenised(self, captions: int, done: int) -> None: ...


@dataclass(frozen=True)
class Runtime:
    """How cells are run; none of it enters a run's key."""

    device: torch.device
    progress: CellProgress
    stop: Callable[[], bool]
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    track: str | None = None
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv[1:]))
    ranks: Ranks = field(default_factory=Ranks)
    grad_checkpointing: bool = False
    deterministic: bool = False
