"""No defense: plain CLIP."""

from __future__ import annotations

from typing import ClassVar

import torch

from bench.api import Batch, Defense, Encoder, Phase
from bench.defenses.losses import clip_loss
from bench.registry import register_defense


@register_defense("clip")
class CLIP(Defense):
    """No defense: CLIP as published (Radford et al. 2021).

    Deviation, as reconstructed: the one augmentation there is a random square crop of the resized image, here a random crop of
    at least a share of its area (option train.crop; 1 turns it off).
    """

    citations: ClassVar[tuple[str, ...]] = ("radford2021clip",)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return clip_loss(encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0]), encoder.logit_scale)
