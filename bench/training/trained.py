"""What a training ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trained:
    """The curve of each epoch, and the seconds of each stage."""

    curves: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def train_seconds(self) -> float:
        return sum(float(curve["seconds"]) for curve in self.curves)

    @property
    def pairs_per_second(self) -> float:
        return sum(int(curve["pairs"]) for curve in self.curves) / max(self.train_seconds, 1e-9)
