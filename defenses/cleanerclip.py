"""CleanerCLIP: CleanCLIP with parts and counterfactuals of captions."""

from __future__ import annotations

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Phase
from bench.defenses.cleanclip import CleanCLIP, CleanCLIPParams
from bench.defenses.losses import clip_loss, contrast, in_modal_loss
from bench.defenses.subtexts import counterfactuals, subtexts
from bench.registry import register_defense


class CleanerCLIPParams(CleanCLIPParams):
    alignment: float = Field(default=1.0, ge=0, description="weight of the mean of both losses with parts of captions")
    replaced: float = Field(default=0.5, gt=0, le=1, description="share of the words that a counterfactual replaces")


@register_defense("cleanerclip")
class CleanerCLIP(CleanCLIP):
    """CleanCLIP that also aligns images with parts of captions, against counterfactuals (Xun et al. 2024, arXiv:2409.17601).

    L_CleanCLIP + alignment/2 (image-part + caption-part InfoNCE); negatives are the other captions' parts and a counterfactual
    of every caption of the batch. All of it is as reconstructed from the abstract: no code is public.
    Deviations: parts are runs of half of a caption's words and counterfactuals have words of another caption, drawn from
    tokens, where the paper parses captions into scene graphs; every pair has them, not a few in each epoch; weights are choices
    of this project. CleanCLIP's part is as in `cleanclip`. It needs a text tower with open_clip's order of tokens.
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
