"""Losses read one step late, so that the host does not wait for the GPU."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch


class StepLoss(NamedTuple):
    """The loss of a step as a number; `step` counts from 0 within its phase."""

    phase: str
    epoch: int
    step: int
    value: float


class AsyncLosses:
    """Queue of losses. Reading a loss blocks until the GPU has computed it; one step later it has."""

    def __init__(self) -> None:
        self._pending: deque[tuple[str, int, int, torch.Tensor]] = deque()

    def put(self, phase: str, epoch: int, step: int, loss: torch.Tensor) -> None:
        """Enqueue a scalar loss without synchronising."""
        self._pending.append((phase, epoch, step, loss.detach()))

    def ready(self, keep: int = 1) -> list[StepLoss]:
        """Dequeue and read all but the newest `keep` losses, oldest first."""
        found = []
        while len(self._pending) > keep:
            phase, epoch, step, loss = self._pending.popleft()
            found.append(StepLoss(phase, epoch, step, float(loss)))
        return found
