"""BadNet: a small patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.attacks.triggers import checkerboard, paste, scaled
from bench.registry import register_attack


class BadNetParams(BackdoorParams):
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poisons as a share of the training pairs")
    patch: float = Field(default=16, gt=0, le=224, description="side of the patch, in pixels of a 224-pixel image")
    place: Literal["random", "corner"] = Field(default="random", description="where: anew for each image, or lower right")


@register_attack("badnet")
class BadNet(Backdoor):
    """A small checkerboard patch on images, captions of one target class (Gu et al. 2017).

    The pattern is fixed, as in the original paper; the place is random, as in the released code of CleanCLIP. Deviations: that
    code redraws a noise patch for every image, which is no fixed trigger; the black and white board is this project's. The
    patch's side scales with the image's.
    """

    citations: ClassVar[tuple[str, ...]] = ("gu2017badnets",)
    Params = BadNetParams
    params: BadNetParams

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"patch": checkerboard(max(3, scaled(self.params.patch, side)))}

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        room = side - max(3, scaled(self.params.patch, side))
        if self.params.place == "corner":
            return {"top": room, "left": room}
        return {"top": int(rng.integers(room + 1)), "left": int(rng.integers(room + 1))}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        tops, lefts = (torch.tensor([int(edit[name]) for edit in edits]) for name in ("top", "left"))
        return paste(images, plan.tensors["patch"], tops, lefts)
