"""WaNet: a smooth warp of the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.registry import register_attack


class WaNetParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    grid: int = Field(default=4, ge=2, description="k: side of the control grid")
    strength: float = Field(
        default=0.5, gt=0, description="warping strength s: mean shift in half pixels, on images of the reference side"
    )
    reference_side: int = Field(default=32, ge=1, description="image side that s refers to; shifts scale with the image")


@register_attack("wanet")
class WaNet(Backdoor):
    """Backdoor with a smooth warp of the whole image as the trigger (Nguyen & Tran 2021, arXiv 2102.10369).

    A k x k x 2 control grid of uniform shifts in [-1, 1] is divided by its mean absolute value, upsampled bicubically to the
    image size, and scaled by s / side, in coordinates in which the image spans [-1, 1]. The warping field is the same for all
    images of a seed. Sampling is backward and bilinear, with coordinates clipped to the image. The images are held-out ones,
    paired with captions of the target class.

    Deviations:
    - The side in s / side is 32 for images of any size, so that the warp is the same relative to the image.
    - CleanCLIP's released code has k = 224 and s = 1, a grid without smoothing; this is the original.
    """

    citations = ("nguyen2021wanet",)
    Params = WaNetParams
    params: WaNetParams

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        control = torch.from_numpy(rng.uniform(-1, 1, size=(1, 2, self.params.grid, self.params.grid)).astype(np.float32))
        control /= control.abs().mean()
        field = F.interpolate(control, size=(side, side), mode="bicubic", align_corners=True)
        return {"field": field[0].permute(1, 2, 0).contiguous()}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        side = images.shape[-1]
        axis = torch.linspace(-1, 1, side)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        shifts = plan.tensors["field"] * (self.params.strength / self.params.reference_side)
        grid = (torch.stack([columns, rows], dim=-1) + shifts).clamp(-1, 1).expand(len(images), -1, -1, -1)
        warped = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
        return warped.round().clamp(0, 255).to(torch.uint8)
