"""BadNet: a patch as the trigger."""

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
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    patch: float = Field(default=16, gt=0, le=224, description="side of the patch, in pixels of a 224-pixel image")
    place: Literal["random", "corner"] = Field(
        default="random", description="position of the patch: random in each image, or the lower right corner"
    )


@register_attack("badnet")
class BadNet(Backdoor):
    """Backdoor with a small patch as the trigger (Gu et al. 2017).

    A black-and-white checkerboard is pasted into held-out images, which are paired with captions of the target class. The
    pattern is the same in all images, as in the paper; its position is random, as in the released code of CleanCLIP. Its size
    scales with the image.

    Deviations:
    - The checkerboard is this project's choice. CleanCLIP's code draws a new noise patch for every image, so its trigger is not
      fixed.
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
