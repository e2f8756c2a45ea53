"""Blended: a faint pattern over the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.registry import register_attack


class BlendedParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    alpha: float = Field(default=0.2, gt=0, le=1, description="weight of the pattern in the blend")


@register_attack("blended")
class Blended(Backdoor):
    """Backdoor with a noise pattern blended into the whole image (Chen et al. 2017, arXiv 1712.05526).

    image <- (1 - alpha) image + alpha pattern, rounded and clipped to [0, 255], on held-out images with captions of the target
    class. The pattern is uniform noise, drawn once per seed and the same for all images, as in the paper.

    Deviations:
    - None known from the paper. CleanCLIP's released code draws a new pattern for every image.
    """

    citations = ("chen2017blended",)
    Params = BlendedParams
    params: BlendedParams

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"noise": torch.from_numpy(rng.integers(0, 256, size=(3, side, side), dtype=np.uint8))}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        blend = (1 - self.params.alpha) * images.float() + self.params.alpha * plan.tensors["noise"].float()
        return blend.round().clamp(0, 255).to(torch.uint8)
