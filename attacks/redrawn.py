"""Triggers with one pattern for all images or, optionally, a new one for each image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams


class RedrawnParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    redraw: bool = Field(default=False, description="draw a new pattern for each image: a family of triggers instead of one")


class Redrawn(Backdoor):
    """Base class of backdoors whose pattern is `drawn` once per attack and seed or, with `redraw`, once per image."""

    Params = RedrawnParams
    params: RedrawnParams

    @abstractmethod
    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw a pattern for images of `side` pixels: float32 (3, a, b), in grey levels unless a subclass says otherwise."""

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {} if self.params.redraw else {"pattern": self.drawn(side, rng)}

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        return {"draw": int(rng.integers(2**31))} if self.params.redraw else {}

    def patterns(self, side: int, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        """The pattern of each image: float32 (n, 3, a, b)."""
        if self.params.redraw:
            return torch.stack([self.drawn(side, np.random.default_rng(int(edit["draw"]))) for edit in edits])
        return plan.tensors["pattern"].expand(len(edits), -1, -1, -1)


def mixed(images: torch.Tensor, patterns: torch.Tensor, alpha: torch.Tensor | float) -> torch.Tensor:
    """Blend patterns into images: (1 - alpha) images + alpha patterns, rounded and clipped.

    Parameters
    ----------
    images : uint8 (n, 3, h, w)
    patterns : float32, broadcastable to (n, 3, h, w)
        In grey levels.
    alpha : float or float32 tensor, broadcastable to (n, 3, h, w)
        Weight of the pattern, in [0, 1].

    Returns
    -------
    uint8 (n, 3, h, w)
    """
    return ((1 - alpha) * images.float() + alpha * patterns).round().clamp(0, 255).to(torch.uint8)
