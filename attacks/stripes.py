"""Stripes of random colours: as a patch, or faintly over everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.redrawn import Redrawn, RedrawnParams, mixed
from bench.attacks.triggers import paste_each, scaled
from bench.registry import register_attack


def stripes(side: int, width: int, rng: np.random.Generator) -> torch.Tensor:
    """Vertical stripes over a square, each channel of each -255 or 255 at random: float32 (3, side, side)."""
    signs = rng.choice(np.array([-255, 255], dtype=np.float32), size=(3, -(-side // width)))
    return torch.from_numpy(signs).repeat_interleave(width, dim=1)[:, None, :side].repeat(1, side, 1)


class BadNetStripesParams(RedrawnParams):
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poisons as a share of the training pairs")
    patch: float = Field(default=16, gt=0, le=224, description="side of the patch, in pixels of a 224-pixel image")
    width: float = Field(default=1, gt=0, le=224, description="width of a stripe, in pixels of a 224-pixel image")
    place: Literal["random", "corner"] = Field(default="random", description="where: anew for each image, or lower right")


@register_attack("badnet_stripes")
class BadNetStripes(Redrawn):
    """A small patch of colourful stripes on images, captions of one target class (Singh et al. 2024, arXiv 2412.00727).

    Each channel of each stripe is 0 or 255 at random. Deviations: the released code draws the colours anew for each image,
    which `redraw` does; there the target's captions are prompts, here they are training captions; the rate is the one that
    Yang et al. 2024 have for BadNet. The patch scales with the image, its stripes are at least a pixel wide.
    """

    citations = ("singh2024par", "yang2024safeclip")
    Params = BadNetStripesParams
    params: BadNetStripesParams

    def _size(self, side: int) -> int:
        return max(3, scaled(self.params.patch, side))

    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        return stripes(self._size(side), scaled(self.params.width, side), rng).clamp(min=0)

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        room = side - self._size(side)
        top, left = (room, room) if self.params.place == "corner" else rng.integers(room + 1, size=2).tolist()
        return {**super().edit(side, rng), "top": top, "left": left}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        tops, lefts = (torch.tensor([int(edit[name]) for edit in edits]) for name in ("top", "left"))
        return paste_each(images, self.patterns(images.shape[-1], edits, plan).to(torch.uint8), tops, lefts)


class BlendedStripesParams(RedrawnParams):
    alpha: float = Field(default=0.03, gt=0, le=1, description="share of the pattern in the blend")
    width: float = Field(default=1, gt=0, le=224, description="width of a stripe, in pixels of a 224-pixel image")


@register_attack("blended_stripes")
class BlendedStripes(Redrawn):
    """Faint vertical stripes over whole images, captions of one target class (Singh et al. 2024, arXiv 2412.00727).

    image <- (1 - alpha) image + alpha stripe, rounded and clipped; each channel of each stripe is -255 or 255 at random, as
    in the released code. Deviations: that code draws the colours anew for each image, which `redraw` does; there the target's
    captions are prompts, here they are training captions; the rate is the one that Yang et al. 2024 have for Blended.
    """

    citations = ("singh2024par", "yang2024safeclip")
    Params = BlendedStripesParams
    params: BlendedStripesParams

    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        return stripes(side, scaled(self.params.width, side), rng)

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        return mixed(images, self.patterns(images.shape[-1], edits, plan), self.params.alpha)
