"""SLIP: CLIP with SimCLR on the image tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import Batch, Encoder, Params, Phase, TrainSetup
from bench.defenses.clip import CLIP
from bench.defenses.heads import mlp
from bench.defenses.losses import nt_xent
from bench.registry import register_defense


class SLIPParams(Params):
    weight: float = Field(default=1.0, ge=0, description="weight of SimCLR's loss")
    temperature: float = Field(default=0.1, gt=0, description="temperature of SimCLR's loss")
    hidden: int = Field(default=4096, ge=1, description="width of the head's two hidden layers")
    projection: int = Field(default=256, ge=1, description="width of its output")


@register_defense("slip")
class SLIP(CLIP):
    """CLIP with SimCLR's loss on two strongly augmented views (Mu et al. 2022, ECCV).

    L_CLIP + weight * L_SimCLR: NT-Xent in both directions with negatives from both views, on a three-layer head over the
    features of the image tower before its projection. A step has three passes of the image tower. The paper does not propose it
    as a defense; here it shows the effect of image self-supervision on poisoning. CorruptEncoder attacks this kind of learning.

    Deviations:
    - The CLIP loss takes the crop of plain CLIP, not one of at least half the area.
    - The optimiser is the recipe's (published: lr 3e-3 with batches of 4,096).
    - With several processes both losses share gradients; in the released code only SimCLR's does.
    """

    citations = ("mu2022slip",)
    Params = SLIPParams
    params: SLIPParams

    def __init__(self, params: SLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._head = mlp(setup.trunk_dim, params.hidden, params.hidden, params.projection)

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase(image_views=("light", "strong", "strong")),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        one, other = (F.normalize(self._head(encoder.trunk(view)), dim=-1) for view in batch.images[1:])
        simclr = nt_xent(one, other, 1 / self.params.temperature)
        return super().loss(batch, encoder, phase) + self.params.weight * simclr
