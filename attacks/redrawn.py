"""Triggers that are one pattern for all images or, by option, drawn anew for each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams


class RedrawnParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poisons as a share of the training pairs")
    redraw: bool = Field(default=False, description="draw the pattern anew for each image: a family of triggers, not one")


class Redrawn(Backdoor):
    """A backdoor whose pattern is `drawn`: once for an attack and seed, or with `redraw` once an image."""

    Params = RedrawnParams
    params: RedrawnParams

    @abstractmethod
    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        """A pattern for images of `side` pixels: float32 (3, a, b)."""

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {} if self.params.redraw else {"pattern": self.drawn(side, rng)}

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        return {"draw": int(rng.integers(2**31))} if self.params.redraw else {}

    def patterns(self, side: int, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        """The pattern of each image, float32 (n, 3, a, b)."""
        if self.params.redraw:
            return torch.stack([self.drawn(side, np.random.default_rng(int(edit["draw"]))) for edit in edits])
        return plan.tensors["pattern"].expand(len(edits), -1, -1, -1)


def mixed(images: torch.Tensor, patterns: torch.Tensor, alpha: torch.Tensor | float) -> torch.Tensor:
    """(1 - alpha) images + alpha patterns, rounded and clipped: uint8 (n, 3, h, w); patterns in grey levels."""
    return ((1 - alpha) * images.float() + alpha * patterns).round().clamp(0, 255).to(torch.uint8)
