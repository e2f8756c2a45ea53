"""CleanCLIP: fine-tuning a poisoned CLIP on clean data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from bench.api import Batch, Encoder, Params, Phase, TrainRecipe, TrainSetup
from bench.registry import register_defense
from defenses.clip import CLIP
from defenses.losses import clip_loss, in_modal_loss


class _FineTuningParams(Params):
    clean: float = Field(default=1 / 30, gt=0, le=1, description="trusted clean pairs, as a share of the training pairs")
    epochs: int = Field(default=10, ge=1, description="epochs of fine-tuning")
    batch_size: int = Field(default=64, ge=2, description="batch size of fine-tuning")


class CleanCLIPParams(_FineTuningParams):
    lr: float = Field(default=0.02, gt=0, description="peak learning rate, as a share of the recipe's")
    warmup_steps: int = Field(default=50, ge=0, description="steps of linear warm-up")
    weight: float = Field(default=1.0, ge=0, description="lambda: weight of the in-modal losses")


class _FineTuning(CLIP):
    """What both variants share: the start, the trusted pairs and the schedule."""

    params: Any

    def __init__(self, params: Any, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._clean: NDArray[np.int64] = setup.trusted(max(1, round(params.clean * setup.pairs)))

    @classmethod
    def starts_from(cls) -> str | None:
        return "clip"

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        steps = max(1, round(params.clean * train.pairs) // params.batch_size)
        return {
            "epochs": params.epochs,
            "batch_size": params.batch_size,
            "lr": params.lr * train.lr,
            "warmup_epochs": min(params.warmup_steps / steps, params.epochs / 2),
        }


@register_defense("cleanclip")
class CleanCLIP(_FineTuning):
    """Unsupervised fine-tuning of the poisoned CLIP on clean pairs with in-modal contrast (Bansal et al. 2023, ICCV).

    L_CLIP + lambda (image-image + text-text InfoNCE between an example and its augmentation). It starts from plain CLIP's
    model of the same cell. The clean pairs are known to be clean by assumption and disjoint from the poison. Their published
    share (100K of 3M), epochs, batch size and lr (0.02 of the pre-training's) are the defaults. Deviation: warm-up is cut to
    half of the fine-tuning where 50 steps would be more.
    """

    Params = CleanCLIPParams
    params: CleanCLIPParams

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("finetune", self._clean, ("plain", "strong"), ("plain", "eda")),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        images, augmented_images = (encoder.encode_image(view) for view in batch.images)
        texts, augmented_texts = (encoder.encode_text(view) for view in batch.texts)
        scale = encoder.logit_scale
        return clip_loss(images, texts, scale) + self.params.weight * (
            in_modal_loss(images, augmented_images, scale) + in_modal_loss(texts, augmented_texts, scale)
        )


class SupervisedParams(_FineTuningParams):
    lr: float = Field(default=0.2, gt=0, description="peak learning rate, as a share of the recipe's")
    warmup_steps: int = Field(default=500, ge=0, description="steps of linear warm-up")


@register_defense("cleanclip_supervised")
class CleanCLIPSupervised(_FineTuning):
    """Supervised fine-tuning of the poisoned CLIP's image encoder on clean labelled images (Bansal et al. 2023, ICCV).

    A linear head on the image embedding learns the classes of the data set's vocabulary; the text encoder stays as it is.
    Deviations: the labelled images are trusted training images with their classes, where the paper takes ImageNet; warm-up is
    cut to half of the fine-tuning where 500 steps would be more.
    """

    Params = SupervisedParams
    params: SupervisedParams

    def __init__(self, params: SupervisedParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        labels = setup.labels(self._clean)
        self._clean = self._clean[labels >= 0]
        known = torch.full((setup.pairs,), -1, dtype=torch.int64)
        known[torch.from_numpy(self._clean)] = torch.from_numpy(labels[labels >= 0])
        self._labels = known.to(setup.device)
        self._head = nn.Linear(setup.embed_dim, setup.classes, bias=True)
        weights = setup.rng("head").normal(0, setup.embed_dim**-0.5, size=(setup.classes, setup.embed_dim))
        with torch.no_grad():
            self._head.weight.copy_(torch.from_numpy(weights))
            self._head.bias.zero_()
        self._head.to(setup.device)

    def modules(self) -> Sequence[nn.Module]:
        return (self._head,)

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("supervised", self._clean, ("light",), ()),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        logits = encoder.logit_scale.detach() * self._head(encoder.encode_image(batch.images[0]))
        return F.cross_entropy(logits, self._labels[batch.indices])

    def state_dict(self) -> dict[str, Any]:
        return {"head": self._head.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._head.load_state_dict(state["head"])
