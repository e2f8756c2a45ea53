"""No defense: plain CLIP."""

from __future__ import annotations

from typing import ClassVar

import torch

from bench.api import Batch, Defense, Encoder, Phase
from bench.defenses.losses import clip_loss
from bench.registry import register_defense


@register_defense("clip")
class CLIP(Defense):
    """No defense: plain CLIP, the symmetric contrastive loss of images and captions (Radford et al. 2021).

    Deviations:
    - The only augmentation in the paper, as reconstructed, is a random square crop of the resized image. Here it is a random
      square crop with at least a given share of the image's area (option `train.crop`; 1 turns it off).
    """

    citations: ClassVar[tuple[str, ...]] = ("radford2021clip",)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return clip_loss(encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0]), encoder.logit_scale)
