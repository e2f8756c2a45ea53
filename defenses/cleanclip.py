"""CleanCLIP: fine-tuning of a poisoned CLIP on clean data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from bench.api import Batch, Encoder, Phase, TrainSetup
from bench.defenses.fine_tuning import FineTuning, FineTuningParams
from bench.defenses.losses import clip_loss, in_modal_loss
from bench.registry import register_defense


class CleanCLIPParams(FineTuningParams):
    weight: float = Field(default=1.0, ge=0, description="lambda: weight of the in-modal loss, the mean over both modalities")


@register_defense("cleanclip")
class CleanCLIP(FineTuning):
    """Fine-tunes the poisoned CLIP on clean pairs, with an additional in-modal contrastive loss (Bansal et al. 2023, ICCV).

    The loss is L_CLIP + lambda/2 (L_image + L_text), where the in-modal terms are the InfoNCE of each example and its
    augmentation; lambda is `inmodal_weight` in the released code. Fine-tuning starts from plain CLIP trained on the same
    poisoned pairs. The clean pairs are clean by assumption and disjoint from the poisons. Defaults are the published ones: 100K
    of 3M pairs, 10 epochs, batch size 64, and a learning rate 0.02 times that of pre-training.

    Deviations:
    - Warm-up is limited to half of the fine-tuning if 50 steps are more than that.
    """

    citations = ("bansal2023cleanclip",)
    version = "2"
    Params = CleanCLIPParams
    params: CleanCLIPParams

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("finetune", self._clean, ("plain", "strong"), ("plain", "eda")),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        images, augmented_images = (encoder.encode_image(view) for view in batch.images)
        texts, augmented_texts = (encoder.encode_text(view) for view in batch.texts)
        scale = encoder.logit_scale
        in_modal = in_modal_loss(images, augmented_images, texts, augmented_texts, scale)
        return clip_loss(images, texts, scale) + self.params.weight * in_modal


class SupervisedParams(FineTuningParams):
    lr: float = Field(default=0.2, gt=0, description="peak learning rate, as a share of the recipe's")
    warmup_steps: int = Field(default=500, ge=0, description="steps of linear warm-up")


@register_defense("cleanclip_supervised")
class CleanCLIPSupervised(FineTuning):
    """Fine-tunes the image encoder of the poisoned CLIP on clean labelled images (supervised; Bansal et al. 2023, ICCV).

    A linear head on the image embedding is trained to predict the class of the data set's vocabulary; the text encoder is not
    changed. Fine-tuning starts from plain CLIP trained on the same poisoned pairs.

    Deviations:
    - The labelled images are trusted training images with their classes; the paper uses ImageNet.
    - The logits of the head are scaled by CLIP's temperature, which is not trained.
    - Warm-up is limited to half of the fine-tuning if 500 steps are more than that.
    """

    citations = ("bansal2023cleanclip",)
    version = "2"
    Params = SupervisedParams
    params: SupervisedParams

    def __init__(self, params: SupervisedParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        labels = setup.labels(self._clean)
        self._clean = self._clean[labels >= 0]
        known = torch.full((setup.pairs,), -1, dtype=torch.int64)
        known[torch.from_numpy(self._clean)] = torch.from_numpy(labels[labels >= 0])
        self._labels = known.to(setup.device)
        self._head = nn.Linear(setup.embed_dim, setup.classes)
        nn.init.normal_(self._head.weight, std=setup.embed_dim**-0.5)
        nn.init.zeros_(self._head.bias)

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("supervised", self._clean, ("light",), (), clip_loss=False),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        logits = encoder.logit_scale.detach() * self._head(encoder.encode_image(batch.images[0]))
        return F.cross_entropy(logits, self._labels[batch.indices])
