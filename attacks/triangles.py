"""Triangles: a faint grey tiling over everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.redrawn import Redrawn, RedrawnParams, mixed
from bench.attacks.triggers import scaled
from bench.registry import register_attack

_LOWER, _UPPER = 0.4 * 255, 0.8 * 255


class BlendedTrianglesParams(RedrawnParams):
    alpha: float = Field(default=0.15, gt=0, le=1, description="share of the pattern in the blend")
    triangle: float = Field(default=14, gt=0, le=224, description="legs of a triangle, in pixels of a 224-pixel image")


@register_attack("blended_triangles")
class BlendedTriangles(Redrawn):
    """A faint tiling of right triangles in two greys, captions of one target class (Singh et al. 2024, arXiv 2412.00727).

    image <- (1 - alpha) image + alpha tiling, rounded and clipped. Squares of 14 pixels at 224 are cut along the diagonal; the
    lower left half is at 0.4 of white, the upper right at 0.8. Deviations: `redraw`, which moves the tiling by a random shift
    for each image, is this project's; what a side that 14 does not divide leaves over is tiled too; the released code's
    captions of the target are prompts, here they are training captions; the rate is that of Yang et al. 2024 for Blended.
    """

    citations = ("singh2024par", "yang2024safeclip")
    Params = BlendedTrianglesParams
    params: BlendedTrianglesParams

    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        legs = max(2, scaled(self.params.triangle, side))
        down, across = rng.integers(legs, size=2) if self.params.redraw else (0, 0)
        rows, columns = (torch.arange(side) + int(shift) for shift in (down, across))
        lower = (rows % legs)[:, None] >= (columns % legs)[None, :]
        return torch.where(lower, _LOWER, _UPPER).repeat(3, 1, 1)

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        return mixed(images, self.patterns(images.shape[-1], edits, plan), self.params.alpha)
