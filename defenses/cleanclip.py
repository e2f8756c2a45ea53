"""CleanCLIP: fine-tuning a poisoned CLIP on clean data."""

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
    weight: float = Field(default=1.0, ge=0, description="lambda: weight of the mean of the two in-modal losses")


@register_defense("cleanclip")
class CleanCLIP(FineTuning):
    """Unsupervised fine-tuning of the poisoned CLIP on clean pairs with in-modal contrast (Bansal et al. 2023, ICCV).

    L_CLIP + lambda/2 (image-image + text-text InfoNCE from an example to its augmentation): lambda is `inmodal_weight` of the
    released code. It starts from plain CLIP's model of the same cell. The clean pairs are known to be clean by assumption and
    disjoint from the poison. Their published share (100K of 3M), epochs, batch size and lr (0.02 of the pre-training's) are
    the defaults. Deviation: warm-up is cut to half of the fine-tuning where 50 steps would be more.
    """

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
    """Supervised fine-tuning of the poisoned CLIP's image encoder on clean labelled images (Bansal et al. 2023, ICCV).

    A linear head on the image embedding learns the classes of the data set's vocabulary; the text encoder stays as it is.
    Deviations: the labelled images are trusted training images with their classes, where the paper takes ImageNet; the head's
    answers are scaled by the temperature, which is not trained; warm-up is cut to half of the fine-tuning where 500 steps
    would be more.
    """

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
