"""Stripes of random colours: as a patch, or blended into the whole image."""

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
    """A square of vertical stripes, each channel of each stripe -255 or 255 at random: float32 (3, side, side)."""
    signs = rng.choice(np.array([-255, 255], dtype=np.float32), size=(3, -(-side // width)))
    return torch.from_numpy(signs).repeat_interleave(width, dim=1)[:, None, :side].repeat(1, side, 1)


class BadNetStripesParams(RedrawnParams):
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    patch: float = Field(default=16, gt=0, le=224, description="side of the patch, in pixels of a 224-pixel image")
    width: float = Field(default=1, gt=0, le=224, description="width of a stripe, in pixels of a 224-pixel image")
    place: Literal["random", "corner"] = Field(
        default="random", description="position of the patch: random in each image, or the lower right corner"
    )


@register_attack("badnet_stripes")
class BadNetStripes(Redrawn):
    """Backdoor with a small patch of coloured stripes as the trigger (Singh et al. 2024, arXiv 2412.00727).

    Each channel of each stripe is 0 or 255 at random. The patch scales with the image; its stripes are at least one pixel wide.

    Deviations:
    - The released code draws new colours for each image; `redraw` does that here.
    - Captions of the target class are prompts in the released code, and training captions here.
    - The poison rate is that of BadNet in Yang et al. 2024.
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
    alpha: float = Field(default=0.03, gt=0, le=1, description="weight of the pattern in the blend")
    width: float = Field(default=1, gt=0, le=224, description="width of a stripe, in pixels of a 224-pixel image")


@register_attack("blended_stripes")
class BlendedStripes(Redrawn):
    """Backdoor with faint vertical stripes over the whole image as the trigger (Singh et al. 2024, arXiv 2412.00727).

    image <- (1 - alpha) image + alpha stripes, rounded and clipped to [0, 255]. Each channel of each stripe is -255 or 255 at
    random, as in the released code.

    Deviations:
    - The released code draws new colours for each image; `redraw` does that here.
    - Captions of the target class are prompts in the released code, and training captions here.
    - The poison rate is that of Blended in Yang et al. 2024.
    """

    citations = ("singh2024par", "yang2024safeclip")
    Params = BlendedStripesParams
    params: BlendedStripesParams

    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        return stripes(side, scaled(self.params.width, side), rng)

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        return mixed(images, self.patterns(images.shape[-1], edits, plan), self.params.alpha)
