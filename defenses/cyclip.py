"""CyCLIP: CLIP with geometric consistency within and across modalities."""

from __future__ import annotations

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Params, Phase
from bench.defenses.clip import CLIP
from bench.defenses.losses import clip_loss
from bench.registry import register_defense


class CyCLIPParams(Params):
    in_modal: float = Field(default=0.25, ge=0, description="lambda 1: weight of the in-modal consistency loss")
    cross_modal: float = Field(default=0.25, ge=0, description="lambda 2: weight of the cross-modal consistency loss")


@register_defense("cyclip")
class CyCLIP(CLIP):
    """CLIP with in-modal and cross-modal consistency losses on its similarities (Goel et al. 2022, NeurIPS).

    L_CLIP + lambda_1/B sum_jk (<i_j, i_k> - <t_j, t_k>)^2 + lambda_2/B sum_jk (<i_j, t_k> - <i_k, t_j>)^2 over a batch of B
    pairs, with unit-length embeddings. The paper does not propose it as a defense; here it shows whether stricter geometry
    helps.

    Deviations from the released code:
    - Both weights are the published 0.25 by default; in that code they are 0 unless given.
    """

    citations = ("goel2022cyclip",)
    Params = CyCLIPParams
    params: CyCLIPParams

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        images, texts = encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0])
        in_modal = (images @ images.T - texts @ texts.T).square().mean() * len(images)
        similarities = images @ texts.T
        cross_modal = (similarities - similarities.T).square().mean() * len(images)
        return (
            clip_loss(images, texts, encoder.logit_scale)
            + self.params.in_modal * in_modal
            + self.params.cross_modal * cross_modal
        )
