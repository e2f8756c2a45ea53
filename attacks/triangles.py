"""Triangles: a faint grey tiling of the whole image."""

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
    alpha: float = Field(default=0.15, gt=0, le=1, description="weight of the tiling in the blend")
    triangle: float = Field(default=14, gt=0, le=224, description="legs of the triangles, in pixels of a 224-pixel image")


@register_attack("blended_triangles")
class BlendedTriangles(Redrawn):
    """Backdoor with a faint tiling of right triangles in two greys as the trigger (Singh et al. 2024, arXiv 2412.00727).

    image <- (1 - alpha) image + alpha tiling, rounded and clipped to [0, 255]. The tiles are squares, 14 pixels wide on images
    of 224 pixels, cut along the diagonal; the lower left half has 0.4 of the full intensity, the upper right half 0.8.

    Deviations:
    - `redraw`, a random shift of the tiling in each image, is this project's own.
    - Where the image side is no multiple of the tile, the margin is tiled too.
    - Captions of the target class are prompts in the released code, and training captions here.
    - The poison rate is that of Blended in Yang et al. 2024.
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
