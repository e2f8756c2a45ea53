"""SafeCLIP: the CLIP loss on pairs that look clean, unimodal contrastive learning on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Batch, Encoder, ImageView, Limit, Meaning, Mixture, Params, Phase, Scorer, Stage, TextView, TrainSetup
from bench.defenses import mismatches, split
from bench.defenses.losses import clip_loss
from bench.defenses.unimodal import Unimodal
from bench.registry import register_defense

_LONGEST_WARMUP = 0.25


class SafeCLIPParams(Params):
    unimodal: float = Field(
        default=5 / 48, ge=0, le=1, description="r: unimodal warm-up on all pairs, as a share of the epochs"
    )
    clip_epochs: int = Field(default=1, ge=0, description="epochs of the CLIP loss on all pairs at the low learning rate")
    until_auc: float = Field(default=0, ge=0, le=1, description="continue these epochs until this AUC on planted mismatches")
    low_lr: float = Field(default=0.01, gt=0, le=1, description="the low learning rate, as a share of the recipe's")
    threshold: float = Field(default=0.9, ge=0, le=1, description="t: posterior above which a pair is in the first safe set")
    unimodal_lr: float = Field(
        default=1.0, gt=0, le=1, description="learning rate of unimodal learning, as a share of the scheduled one"
    )
    growth: float = Field(
        default=0.48, ge=0, description="s: growth of the safe share over a whole run; each epoch adds an equal part"
    )
    largest: float = Field(default=1.0, gt=0, le=1, description="upper bound of the safe share")
    rescored: float = Field(
        default=1.0, gt=0, le=1, description="share of the pairs, the most similar ones, rescored each epoch"
    )
    use_pool: bool = Field(default=True, description="nearest neighbours from a pool; false: symmetric in-modal InfoNCE")
    pool: int = Field(default=256, ge=1, description="pool size, in embeddings for each modality")
    risky_unimodal: bool = Field(default=True, description="unimodal learning on the risky set")
    augment_safe: bool = Field(default=True, description="strong augmentation of the safe set")


@register_defense("safeclip")
class SafeCLIP(Unimodal):
    """CLIP loss on a growing safe set, unimodal contrastive learning on the rest (Yang et al. 2024, ICML, Algorithm 1).

    1. Unimodal warm-up: nearest-neighbour contrastive learning of each modality on all pairs.
    2. One epoch of the CLIP loss on all pairs at a low learning rate.
    3. A two-component Gaussian mixture is fitted to the image-caption similarities. The safe set is {posterior > t}; if it is
       empty, it is the most similar pairs, as many as an epoch adds later (at least 1%). The rest is risky.
    4. Mixed epochs: unimodal learning on the risky set, then the CLIP loss on the safe set. After each epoch similarities are
       computed again, and the safe set becomes the most similar pairs, with a share that grows by s.

    Of 48 epochs the published schedule has 5 unimodal ones, and each epoch adds 1%. Both are kept relative to the length of the
    run, with at least one unimodal epoch unless `unimodal` is 0. One epoch at the low learning rate is enough if it has
    thousands of steps, as published; `until_auc` adds such epochs until similarities separate planted mismatches from pairs,
    for at most a quarter of the run. With `use_pool=false` unimodal learning is symmetric InfoNCE of two views, with gradient
    through both.

    Deviations from the released code:
    - L_NN follows Eq. 2: neighbours against all second views, not second views against all neighbours. The modalities are
      summed, not averaged. Without the pool that code uses one direction only, from the second view to the first.
    - The temperature is trained by the CLIP loss only. In that code the unimodal loss trains it too, and would lower it: its
      gradient has this sign in 160 of 162 steps of three short runs on `scenes`, with and without the pool.
    - The CLIP loss uses one view: an augmented one of the safe set; in the low-rate epoch, a lightly cropped image with its
      plain caption. In that code both use two augmented views, crossed.
    - Captions are augmented anew in each epoch, not once; similarities are computed on unaugmented pairs.
    - The posterior is made monotone in the similarity, which changed 115 of 16,500 initial labels in a test. Later safe sets
      are the most similar pairs; in that code they are those of the highest unmodified posterior.
    - The pool is initialised with embeddings of random pairs, as in the paper, not with noise. A batch that exceeds its end
      wraps around; that code drops the rest.
    - The safe share is capped at `largest` (1 by default), not at 0.85; the learning-rate schedule ends at 0 and does not rise
      again.
    """

    citations = ("yang2024safeclip",)
    version = "4"
    Params = SafeCLIPParams
    params: SafeCLIPParams

    def __init__(self, params: SafeCLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._similarities = np.zeros(setup.pairs, dtype=np.float32)
        self._safe = np.zeros(setup.pairs, dtype=bool)
        self._share = 0.0
        self._growth = params.growth / setup.epochs
        self._clip_epochs = params.clip_epochs
        self._fit: split.Fit | None = None
        self._planted: dict[str, float] = {}

    @classmethod
    def limits(cls, params: SafeCLIPParams) -> Sequence[Limit]:
        first, auc = "share of the pairs in the first safe set", "AUC of the first split on planted mismatches"
        return (
            Limit("safe_share", "first", first, "lower threshold or raise low_lr", low=0.03),
            Limit("safe_share", "first", first, "raise threshold or lower low_lr", high=0.9),
            Limit("safe_share", "last", "share of the pairs in the last safe set", "lower growth or largest", high=0.85),
            Limit("mismatch_auc", "first", auc, "raise low_lr or clip_epochs", low=mismatches.LEAST_AUC),
        )

    @classmethod
    def meaning(cls, params: SafeCLIPParams) -> Meaning:
        return Meaning(
            safe_share="safe_share",
            safe_cut="safe_cut",
            mixture=Mixture(**{name: f"gmm_{name}" for name in Mixture.model_fields}),
            stages=(Stage(name="unimodal", phase="unimodal"), Stage(name="mixed", phase="safe", updates=True)),
            lr_shares=("low_lr",),
        )

    @property
    def _warmup(self) -> int:
        return self._unimodal_epochs + self._clip_epochs

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        self._forget_neighbours()
        if epoch == self._warmup and not self._safe.any():
            self._split(scorer)
        if self.params.use_pool:
            self._fill_pools(scorer)

    def phases(self, epoch: int) -> Sequence[Phase]:
        if epoch < self._unimodal_epochs:
            return (self._unimodal(None),)
        if epoch < self._warmup:
            return (Phase("low_lr", lr=self.params.low_lr * self.setup.lr, clip_loss=False),)
        image_view: ImageView = "strong" if self.params.augment_safe else "light"
        text_view: TextView = "eda" if self.params.augment_safe else "plain"
        safe = Phase("safe", np.flatnonzero(self._safe), (image_view,), (text_view,))
        risky = np.flatnonzero(~self._safe)
        return (self._unimodal(risky), safe) if self.params.risky_unimodal and len(risky) else (safe,)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        if phase.name != "unimodal":
            return super().loss(batch, encoder, phase)
        if self.params.use_pool:
            return self._unimodal_loss(batch, encoder)
        scale = encoder.logit_scale.detach()
        first_images, images = (encoder.encode_image(view) for view in batch.images)
        first_texts, texts = (encoder.encode_text(view) for view in batch.texts)
        return clip_loss(first_images, images, scale) + clip_loss(first_texts, texts, scale)

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        if epoch < self._warmup - 1:
            return
        if self._fit is None and epoch + 1 < _LONGEST_WARMUP * self.setup.epochs and not self._separates(scorer):
            self._clip_epochs += 1
        else:
            self._split(scorer)

    def _separates(self, scorer: Scorer) -> bool:
        """Whether similarities separate planted mismatches from pairs well enough."""
        if not self.params.until_auc:
            return True
        return mismatches.auc(*mismatches.planted(scorer, self.setup.pairs, self.setup.rng)) >= self.params.until_auc

    def _split(self, scorer: Scorer) -> None:
        first = self._fit is None
        rescored = None if first or self.params.rescored >= 1 else self._most_similar()
        rows = np.arange(self.setup.pairs) if rescored is None else rescored
        self._similarities[rows] = scorer.similarities(rows)
        self._fit = split.fit(self._similarities)
        if first:
            self._safe = self._fit.posterior > self.params.threshold
            if not self._safe.any():
                self._safe = split.top(self._similarities, max(self._growth, 0.01))
            if self._safe.mean() > self.params.largest:
                self._safe = split.top(self._similarities, self.params.largest)
            self._share = float(self._safe.mean())
        else:
            self._share = min(self.params.largest, self._share + self._growth)
            self._safe = split.top(self._similarities, self._share)
        self._planted = self._planted_mismatches(scorer)

    def _planted_mismatches(self, scorer: Scorer) -> dict[str, float]:
        """Telemetry: the AUC of similarities on planted mismatches, and the share of these that would be in the safe set."""
        matches, others = mismatches.planted(scorer, self.setup.pairs, self.setup.rng)
        return {"mismatch_auc": mismatches.auc(matches, others), "mismatch_safe": float((others >= self._cut).mean())}

    @property
    def _cut(self) -> float:
        return float(self._similarities[self._safe].min())

    def _most_similar(self) -> NDArray[np.int64]:
        return np.flatnonzero(split.top(self._similarities, self.params.rescored))

    def observed(self) -> dict[str, NDArray[Any]]:
        return super().observed() | ({"safe": self._safe, "similarity": self._similarities} if self._fit else {})

    def scores(self) -> NDArray[np.float32] | None:
        return -self._similarities if self._fit else None

    def telemetry(self) -> dict[str, float]:
        if self._fit is None:
            return {}
        fit = self._fit
        return {
            "safe_share": self._share,
            "gmm_lower_mean": fit.means[0],
            "gmm_lower_std": fit.variances[0] ** 0.5,
            "gmm_lower_weight": fit.weights[0],
            "gmm_upper_mean": fit.means[1],
            "gmm_upper_std": fit.variances[1] ** 0.5,
            "safe_cut": self._cut,
            "gmm_degenerate": float(fit.degenerate),
            **self._planted,
        }

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "similarities": torch.from_numpy(self._similarities),
            "safe": torch.from_numpy(self._safe),
            "share": self._share,
            "fitted": self._fit is not None,
            "clip_epochs": self._clip_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._similarities = state["similarities"].numpy().copy()
        self._safe = state["safe"].numpy().copy()
        self._share = float(state["share"])
        self._clip_epochs = int(state["clip_epochs"])
        if state["fitted"]:
            self._fit = split.fit(self._similarities)
