"""SafeCLIP: the CLIP loss on pairs that look clean, unimodal learning on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Batch, Encoder, ImageView, Limit, Meaning, Mixture, Params, Phase, Scorer, Stage, TextView, TrainSetup
from bench.defenses import mismatches, split
from bench.defenses.clip import CLIP
from bench.defenses.losses import clip_loss, nn_contrastive_loss
from bench.defenses.pool import Pool
from bench.registry import register_defense

_LONGEST_WARMUP = 0.25


class SafeCLIPParams(Params):
    unimodal: float = Field(default=5 / 48, ge=0, le=1, description="r, a share of the epochs: unimodal learning on all pairs")
    clip_epochs: int = Field(default=1, ge=0, description="epochs of the CLIP loss at the low learning rate, on all pairs")
    until_auc: float = Field(default=0, ge=0, le=1, description="more of them until planted mismatches are told apart so well")
    low_lr: float = Field(default=0.01, gt=0, le=1, description="that learning rate, as a share of the recipe's")
    threshold: float = Field(default=0.9, ge=0, le=1, description="t: posterior above which a pair is safe at first")
    unimodal_lr: float = Field(default=1.0, gt=0, le=1, description="share of the scheduled learning rate in unimodal learning")
    growth: float = Field(default=0.48, ge=0, description="s, in all epochs together: each adds its part to the safe share")
    largest: float = Field(default=1.0, gt=0, le=1, description="the safe share grows to this at most")
    rescored: float = Field(default=1.0, gt=0, le=1, description="share of the most similar pairs scored anew each epoch")
    use_pool: bool = Field(default=True, description="nearest neighbours from a pool; off is two-sided in-modal InfoNCE")
    pool: int = Field(default=256, ge=1, description="pool size, in embeddings of each modality")
    risky_unimodal: bool = Field(default=True, description="unimodal learning on the risky set")
    augment_safe: bool = Field(default=True, description="strong augmentation of the safe set")


@register_defense("safeclip")
class SafeCLIP(CLIP):
    """CLIP loss on a growing safe set, unimodal NN contrast on the rest (Yang et al. 2024, ICML, Algorithm 1).

    Unimodal warm-up, one CLIP epoch at a low learning rate, a Gaussian mixture on similarities, then mixed epochs: the risky
    pass runs before the safe pass. The safe set is first {posterior > t}, later the most similar pairs, its share growing.
    Of 48 epochs the published 5 are unimodal and each adds 1%: both are shares of the run here, the first at least an epoch
    unless it is 0. An empty first safe set is replaced by the most similar pairs, as many as an epoch adds (at least 1%).
    Without the pool unimodal learning is InfoNCE of two views in both directions, with gradient through both.
    One epoch at the low rate suffices where it has thousands of steps, as published. `until_auc` goes on with such epochs until
    similarities tell planted mismatches (`mismatches`) from pairs, at most until a quarter of the run is over.

    Deviations from the released code:
    - L_NN has the orientation of Eq. 2, neighbours against all second views, not second views against all neighbours; both
      modalities are summed, not averaged. Without the pool that code takes one direction, second view to first.
    - The temperature is learned by the CLIP loss alone. The unimodal loss, which trains it too in that code, would lower it:
      so its gradient points in 160 of 162 steps of three short runs on `scenes`, with the pool and without.
    - The CLIP loss takes one view: of the safe set an augmented one, in the low-rate epoch a lightly cropped image with its
      caption as it is. There both have two augmented views, crossed.
    - Captions are augmented afresh each epoch, not once; similarities are scored on unaugmented pairs.
    - The posterior is made monotone in the similarity (`split`), which changed 115 of 16,500 first flags where it was tried;
      later safe sets are the most similar pairs, there those of the highest posterior as it is.
    - The pool starts with random pairs' embeddings, as in the paper, not with noise; a batch that reaches its end goes on at
      its start, where that code drops the rest.
    - The share is capped at 1, not 0.85, unless set; the learning-rate schedule ends at 0 and does not rise again.
    """

    citations = ("yang2024safeclip",)
    version = "4"
    Params = SafeCLIPParams
    params: SafeCLIPParams

    def __init__(self, params: SafeCLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._pools = {name: Pool(params.pool, setup.embed_dim, setup.device) for name in ("image", "text")}
        self._found = {name: torch.full((setup.pairs,), -1, device=setup.device) for name in self._pools}
        self._similarities = np.zeros(setup.pairs, dtype=np.float32)
        self._safe = np.zeros(setup.pairs, dtype=bool)
        self._share = 0.0
        self._growth = params.growth / setup.epochs
        self._clip_epochs = params.clip_epochs
        self._fit: split.Fit | None = None
        self._planted: dict[str, float] = {}

    @classmethod
    def limits(cls, params: SafeCLIPParams) -> Sequence[Limit]:
        first, told = "share of the pairs in the first safe set", "AUC of the first split on planted mismatches"
        return (
            Limit("safe_share", "first", first, "lower threshold or raise low_lr", low=0.03),
            Limit("safe_share", "first", first, "raise threshold or lower low_lr", high=0.9),
            Limit("safe_share", "last", "share of the pairs in the last safe set", "lower growth or largest", high=0.85),
            Limit("mismatch_auc", "first", told, "raise low_lr or clip_epochs", low=mismatches.LEAST_AUC),
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
    def _unimodal_epochs(self) -> int:
        share = self.params.unimodal
        return max(1, int(share * self.setup.epochs + 0.5)) if share else 0

    @property
    def _warmup(self) -> int:
        return self._unimodal_epochs + self._clip_epochs

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        for found in self._found.values():
            found.fill_(-1)
        if epoch == self._warmup and not self._safe.any():
            self._split(scorer)
        if self.params.use_pool and not len(self._pools["image"]):
            chosen = self.setup.rng("pool").permutation(self.setup.pairs)[: self.params.pool]
            images, texts = scorer.embeddings(chosen)
            pairs = torch.from_numpy(chosen).to(self.setup.device)
            self._pools["image"].push(images, pairs)
            self._pools["text"].push(texts, pairs)

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

    def _unimodal(self, indices: NDArray[np.int64] | None) -> Phase:
        share = self.params.unimodal_lr
        return Phase("unimodal", indices, ("strong", "strong"), ("eda", "eda"), lr_share=share, clip_loss=False)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        if phase.name != "unimodal":
            return super().loss(batch, encoder, phase)
        scale = encoder.logit_scale.detach()
        with torch.no_grad() if self.params.use_pool else nullcontext():
            first_images = encoder.encode_image(batch.images[0])
            first_texts = encoder.encode_text(batch.texts[0])
        images = encoder.encode_image(batch.images[1])
        texts = encoder.encode_text(batch.texts[1])
        if not self.params.use_pool:
            return clip_loss(first_images, images, scale) + clip_loss(first_texts, texts, scale)
        image_neighbours = self._neighbours("image", first_images, batch.indices)
        text_neighbours = self._neighbours("text", first_texts, batch.indices)
        return nn_contrastive_loss(image_neighbours, images, scale) + nn_contrastive_loss(text_neighbours, texts, scale)

    def _neighbours(self, modality: str, anchors: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """The pool's nearest embeddings; the batch enters the pool afterwards."""
        neighbours, self._found[modality][pairs] = self._pools[modality].nearest(anchors)
        self._pools[modality].push(anchors, pairs)
        return neighbours

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        if epoch < self._warmup - 1:
            return
        if self._fit is None and epoch + 1 < _LONGEST_WARMUP * self.setup.epochs and not self._told_apart(scorer):
            self._clip_epochs += 1
        else:
            self._split(scorer)

    def _told_apart(self, scorer: Scorer) -> bool:
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
        """How well similarities tell them from pairs, and the share of them that would be in the safe set."""
        matches, others = mismatches.planted(scorer, self.setup.pairs, self.setup.rng)
        return {"mismatch_auc": mismatches.auc(matches, others), "mismatch_safe": float((others >= self._cut).mean())}

    @property
    def _cut(self) -> float:
        return float(self._similarities[self._safe].min())

    def _most_similar(self) -> NDArray[np.int64]:
        return np.flatnonzero(split.top(self._similarities, self.params.rescored))

    def observed(self) -> dict[str, NDArray[Any]]:
        found = {f"{modality}_neighbour": pairs.cpu().numpy() for modality, pairs in self._found.items()}
        return found | ({"safe": self._safe, "similarity": self._similarities} if self._fit else {})

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
        return {
            "pools": {name: pool.state_dict() for name, pool in self._pools.items()},
            "found": self._found,
            "similarities": torch.from_numpy(self._similarities),
            "safe": torch.from_numpy(self._safe),
            "share": self._share,
            "fitted": self._fit is not None,
            "clip_epochs": self._clip_epochs,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, pool in self._pools.items():
            pool.load_state_dict(state["pools"][name])
        for name, found in self._found.items():
            found.copy_(state["found"][name])
        self._similarities = state["similarities"].numpy().copy()
        self._safe = state["safe"].numpy().copy()
        self._share = float(state["share"])
        self._clip_epochs = int(state["clip_epochs"])
        if state["fitted"]:
            self._fit = split.fit(self._similarities)
