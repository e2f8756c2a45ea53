"""PAR, perturb and recover: fine-tuning that moves embeddings away from those of the poisoned CLIP."""

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
    tau: float = Field(default=2.15, ge=0, le=4, description="squared distance up to which embeddings are perturbed")
    clean: float = Field(default=1 / 12, gt=0, le=1, description="trusted clean pairs, as a share of the training pairs")
    batch_size: int = Field(default=2048, ge=2, description="batch size of fine-tuning")
    lr: float = Field(default=0.06, gt=0, description="initial learning rate, as a share of the recipe's")
    weight_decay: float = Field(default=1e-4, ge=0, description="weight decay of AdamW")


@register_defense("par")
class PAR(FineTuning):
    """Fine-tunes the poisoned CLIP on clean pairs, away from its embeddings (perturb and recover; Singh et al. 2024).

    The loss is L_CLIP - 1/2 ( [S_i <= tau] S_i + [S_t <= tau] S_t ), where S is the mean squared distance over a batch between
    the unit-length embeddings of the model and of the poisoned model, for images (i) and texts (t) (arXiv 2412.00727). The
    learning rate decreases linearly to a tenth over the first half, then by a cosine to 0; the temperature is not trained.
    Fine-tuning starts from plain CLIP trained on the same poisoned pairs; the clean pairs are clean by assumption. Defaults are
    the published constants: 10 epochs on 250,000 of 3M pairs, batch size 2,048, a learning rate of 3e-5 relative to CLIP's
    5e-4, weight decay 1e-4, beta2 0.98.

    Deviations:
    - Images are not augmented, so that the embeddings of the poisoned model are computed once.
    - The learning rate is constant within an epoch.
    - Weight decay applies to all weights; in the released code, not to vectors.
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
    """The mean squared distance between corresponding unit rows, (n, d) each: a scalar in [0, 4]."""
    return (now - start).square().sum(dim=1).mean()


def falling(progress: float) -> float:
    """Factor of the learning rate at `progress` in [0, 1]: linear from 1 to 0.1 at one half, then a cosine to 0."""
    return 1 - 1.8 * progress if progress < 0.5 else 0.05 * (1 + math.cos(math.pi * (2 * progress - 1)))
