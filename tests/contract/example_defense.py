"""A defense in one file: `bench check example_defense.py`, `bench run --plugin example_defense.py --defense soft_clip`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import Batch, Encoder, Params, Phase
from bench.defenses.clip import CLIP
from bench.registry import register_defense


class SoftCLIPParams(Params):
    smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of the target spread over all pairs of a batch")


@register_defense("soft_clip")
class SoftCLIP(CLIP):
    """CLIP with smoothed targets, so that no single pair is learned with certainty (Szegedy et al. 2016).

    Deviations: the labels are the positions within a batch, in both directions of the contrastive loss.
    """

    Params = SoftCLIPParams
    params: SoftCLIPParams

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        images, texts = encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0])
        logits = encoder.logit_scale * images @ texts.T
        own = torch.arange(len(logits), device=logits.device)
        soft = self.params.smoothing
        return (F.cross_entropy(logits, own, label_smoothing=soft) + F.cross_entropy(logits.T, own, label_smoothing=soft)) / 2
