"""PAR: fine-tuning a poisoned CLIP away from where it started, and back to good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Limit, Phase, Scorer, TrainRecipe, TrainSetup
from bench.defenses.fine_tuning import FineTuning, TuningParams, duration
from bench.defenses.losses import clip_loss
from bench.registry import register_defense


class PARParams(TuningParams):
    tau: float = Field(default=2.15, ge=0, le=4, description="squared distance up to which embeddings are driven away")
    clean: float = Field(default=1 / 12, gt=0, le=1, description="trusted clean pairs, as a share of the training pairs")
    batch_size: int = Field(default=2048, ge=2, description="batch size of fine-tuning")
    lr: float = Field(default=0.06, gt=0, description="learning rate at the start, as a share of the recipe's")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's")


@register_defense("par")
class PAR(FineTuning):
    """Perturb and recover: fine-tuning on clean pairs that drives embeddings away (Singh et al. 2024, arXiv:2412.00727).

    L_CLIP - 1/2 ( [S_i <= tau] S_i + [S_t <= tau] S_t ), where S is the mean over a batch of the squared distance between unit
    embeddings of the model and of the poisoned model that it started from, of images (i) and of texts (t). The learning rate
    falls linearly to a tenth over the first half, then by a cosine to 0; the temperature is not trained. Defaults are the
    published constants (10 epochs on 250,000 of 3M pairs, batch 2,048, lr 3e-5 as a share of CLIP's 5e-4, weight decay 1e-4,
    beta2 0.98). It starts from plain CLIP's model of the same cell; the clean pairs are clean by assumption.
    Deviations: images are not augmented, so that the poisoned model's embeddings are computed once; the rate is constant
    within an epoch; weight decay is on all weights, in the released code not on vectors.
    """

    citations = ("singh2024par",)
    Params = PARParams
    params: PARParams

    def __init__(self, params: PARParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._row = torch.zeros(setup.pairs, dtype=torch.int64, device=setup.device)
        self._row[torch.from_numpy(self._clean).to(setup.device)] = torch.arange(len(self._clean), device=setup.device)
        self._start: tuple[torch.Tensor, ...] = ()
        self._drift: dict[str, float] = {}

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        return {
            "epochs": duration(params, train)[1],
            "batch_size": params.batch_size,
            "lr": params.lr * train.lr,
            "weight_decay": params.weight_decay,
            "beta2": 0.98,
        }

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        what = "squared distance of image embeddings from the poisoned model's"
        return (Limit("image_drift", "last", what, "raise lr or train longer", low=params.tau / 2, unit=""),)

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        if not self._start:
            self._start = scorer.embeddings(self._clean)

    def phases(self, epoch: int) -> Sequence[Phase]:
        rate = self.setup.lr * falling((epoch + 0.5) / self.setup.epochs)
        return (Phase("finetune", self._clean, ("plain",), lr=rate),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        now = encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0])
        rows = self._row[batch.indices]
        drifts = torch.stack([drift(one, start[rows]) for one, start in zip(now, self._start, strict=True)])
        perturb = torch.where(drifts <= self.params.tau, drifts, 0).sum() / 2
        return clip_loss(*now, encoder.logit_scale.detach()) - perturb

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        drifts = map(drift, scorer.embeddings(self._clean), self._start)
        self._drift = dict(zip(("image_drift", "text_drift"), map(float, drifts), strict=True))

    def telemetry(self) -> dict[str, float]:
        return self._drift

    def state_dict(self) -> dict[str, Any]:
        return {"start": list(self._start)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = tuple(each.to(self.setup.device) for each in state["start"])


def drift(now: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of unit rows (n, d) to those in the same place, a scalar in [0, 4]."""
    return (now - start).square().sum(dim=1).mean()


def falling(progress: float) -> float:
    """Factor on the learning rate, `progress` in [0, 1]: from 1 linearly to 0.1 at one half, then by a cosine to 0."""
    return 1 - 1.8 * progress if progress < 0.5 else 0.05 * (1 + math.cos(math.pi * (2 * progress - 1)))
