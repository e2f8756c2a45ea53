"""CleanerCLIP: CleanCLIP with sub-texts and counterfactuals of captions."""

from __future__ import annotations

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Phase
from bench.defenses.cleanclip import CleanCLIP, CleanCLIPParams
from bench.defenses.losses import clip_loss, contrast, in_modal_loss
from bench.defenses.subtexts import counterfactuals, subtexts
from bench.registry import register_defense


class CleanerCLIPParams(CleanCLIPParams):
    alignment: float = Field(default=1.0, ge=0, description="weight of the losses with parts of captions")
    replaced: float = Field(default=0.5, gt=0, le=1, description="share of the words replaced in a counterfactual")


@register_defense("cleanerclip")
class CleanerCLIP(CleanCLIP):
    """CleanCLIP that also aligns images with parts of captions, against counterfactuals (Xun et al. 2024, arXiv:2409.17601).

    L_CleanCLIP + alignment/2 (image-part + caption-part InfoNCE); negatives are parts of other captions and a counterfactual of
    every caption in the batch. As reconstructed from the abstract; no code is public. The model's tokens must be in
    open_clip's order.

    Deviations:
    - A part is a random run of half of the words, and a counterfactual has words of another caption, where the paper parses
      captions into scene graphs.
    - Every pair has them, not a few in each epoch.
    - Weights are choices of this project. CleanCLIP's loss is that of `cleanclip`.
    """

    citations = ("xun2024cleanerclip",)
    version = "1"
    Params = CleanerCLIPParams
    params: CleanerCLIPParams

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        tokens, scale = batch.texts[0], encoder.logit_scale
        images, augmented_images = (encoder.encode_image(view) for view in batch.images)
        texts, augmented_texts = (encoder.encode_text(view) for view in batch.texts)
        cleanclip = clip_loss(images, texts, scale) + self.params.weight * in_modal_loss(
            images, augmented_images, texts, augmented_texts, scale
        )
        changed = subtexts(tokens), counterfactuals(tokens, self.params.replaced)
        candidates = torch.cat([encoder.encode_text(each) for each in changed])
        return (
            cleanclip + self.params.alignment * (contrast(images, candidates, scale) + contrast(texts, candidates, scale)) / 2
        )
