"""Running statistics of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.training.async_loss import StepLoss


class EpochMeter:
    """Mean loss and number of steps, overall and of each phase; pairs and seconds.

    All of it is in `numbers`, which a checkpoint stores and a resumed run passes back in.
    """

    def __init__(self, numbers: Mapping[str, float] | None = None) -> None:
        self.numbers: dict[str, float] = {"steps": 0, "loss": 0.0, "pairs": 0, "seconds": 0.0, **(numbers or {})}

    def add_loss(self, loss: StepLoss) -> None:
        for suffix in ("", f"_{loss.phase}"):
            steps = self.numbers.get(f"steps{suffix}", 0) + 1
            mean = self.numbers.get(f"loss{suffix}", 0.0)
            self.numbers |= {f"steps{suffix}": steps, f"loss{suffix}": mean + (loss.value - mean) / steps}

    def add_time(self, seconds: float, pairs: int = 0) -> None:
        self.numbers["seconds"] += seconds
        self.numbers["pairs"] += pairs

    @property
    def loss(self) -> float:
        """NaN before the first step."""
        return self.numbers["loss"] if self.numbers["steps"] else math.nan

    @property
    def pairs_per_second(self) -> float:
        return self.numbers["pairs"] / max(self.numbers["seconds"], 1e-9)
