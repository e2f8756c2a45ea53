"""SLIP: CLIP with SimCLR's loss on the image tower."""

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
    temperature: float = Field(default=0.1, gt=0, description="of SimCLR's loss")
    hidden: int = Field(default=4096, ge=1, description="width of the head's two hidden layers")
    projection: int = Field(default=256, ge=1, description="width of what it gives")


@register_defense("slip")
class SLIP(CLIP):
    """CLIP loss and SimCLR's of two strongly augmented views (Mu et al. 2022, ECCV).

    L_CLIP + weight * L_SimCLR: NT-Xent of both views in both directions, negatives from both, on a three-layer head over what
    the image tower has before its projection. Each step takes three passes of the image tower. Its paper does not claim a
    defense: here it shows what self-supervision of images does to the poison, and it is what CorruptEncoder attacks.
    Deviations: the CLIP loss takes the crop of plain CLIP here, not one of half the area; optimisation is the recipe's (there
    lr 3e-3 at a batch of 4,096); several processes share gradients in both losses, there in SimCLR's alone.
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
