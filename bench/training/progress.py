"""Callbacks of the training loop."""

from __future__ import annotations

from typing import Any, Protocol


class TrainingProgress(Protocol):
    """`share` is the fraction of the training that is done."""

    def stage(self, name: str) -> None: ...

    def step(self, share: float, pairs_per_second: float, loss: float) -> None: ...

    def epoch(self, curve: dict[str, Any], epochs: int) -> None: ...

    def note(self, text: str) -> None: ...
