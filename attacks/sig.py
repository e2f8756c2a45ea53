"""SIG: a sinusoidal signal as the trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.registry import register_attack


class SIGParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    delta: float = Field(default=40, gt=0, le=255, description="amplitude Delta, in grey levels (0 to 255)")
    frequency: float = Field(default=6, gt=0, description="frequency f: periods per image width")


@register_attack("sig")
class SIG(Backdoor):
    """Backdoor with a horizontal sinusoid as the trigger, which looks like vertical stripes (Barni et al. 2019).

    Delta sin(2 pi j f / side) is added to column j of every channel and the result clipped (arXiv 1902.11237), on held-out
    images with captions of the target class.

    Deviations:
    - The original, as reconstructed, is a clean-label attack on images of the target class; here images of other classes get
      captions of the target class.
    - Delta is 40, the upper end of the paper's range of 20 to 40. CleanCLIP's released code blends in stripes of amplitude 60
      with weight 0.2: an amplitude of 12 on an image dimmed to 80%.
    """

    citations = ("barni2019sig",)
    Params = SIGParams
    params: SIGParams

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        columns = torch.arange(side, dtype=torch.float32)
        return {"stripes": self.params.delta * torch.sin(2 * torch.pi * columns * self.params.frequency / side)}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        return (images.float() + plan.tensors["stripes"]).round().clamp(0, 255).to(torch.uint8)
