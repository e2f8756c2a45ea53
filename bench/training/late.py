"""Losses read one step late."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch


class StepLoss(NamedTuple):
    """A step's loss as a number: the name of its phase, its epoch and its number in the phase, from 0."""

    phase: str
    epoch: int
    step: int
    value: float


class LateLosses:
    """Reading a loss makes the host wait for the GPU; by the next step it is there, and the next step is already queued."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int, int, torch.Tensor]] = deque()

    def put(self, phase: str, epoch: int, step: int, loss: torch.Tensor) -> None:
        """Take a scalar without reading it."""
        self._waiting.append((phase, epoch, step, loss.detach()))

    def ready(self, keep: int = 1) -> list[StepLoss]:
        """Read all but the last `keep`, in their order."""
        found = []
        while len(self._waiting) > keep:
            phase, epoch, step, loss = self._waiting.popleft()
            found.append(StepLoss(phase, epoch, step, float(loss)))
        return found
