"""RoCLIP: images matched with captions from a pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Batch, Encoder, Limit, Params, Phase, Scorer, TrainRecipe, TrainSetup
from bench.defenses import mismatches
from bench.defenses.clip import CLIP
from bench.defenses.losses import clip_loss
from bench.defenses.pool import Pool
from bench.registry import register_defense


class RoCLIPParams(Params):
    every: int = Field(default=2, ge=1, description="K: every K-th epoch matches images with the pool")
    pool: float = Field(default=0.02, gt=0, le=1, description="pool size as a share of the training pairs")
    lr: float = Field(default=0.1, gt=0, description="peak learning rate, as a share of the recipe's")
    epochs: float = Field(default=0.5, gt=0, description="epochs, as a share of the recipe's")
    augment_images: bool = Field(default=True, description="strong image augmentation")
    augment_texts: bool = Field(default=True, description="EDA on captions")


@register_defense("roclip")
class RoCLIP(CLIP):
    """Every K-th epoch, images are matched with captions from a pool instead of their own (Yang et al. 2023, NeurIPS).

    In a matching epoch, the caption embedding of each pair is replaced in the CLIP loss by the one in the pool that is nearest
    to the image embedding. As in the released code, the lookup comes before the batch's captions enter the pool, and captions
    enter in matching epochs only. Images and captions are augmented. The published learning rate (5e-5) and number of epochs
    (24) are kept relative to those of CLIP (a tenth and a half).

    Deviations from the released code:
    - The pool is initialised with captions of random pairs, not with noise.
    - A batch that exceeds the end of the pool wraps around; that code drops the rest.
    """

    citations: ClassVar[tuple[str, ...]] = ("yang2023roclip",)
    Params = RoCLIPParams
    params: RoCLIPParams

    def __init__(self, params: RoCLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._pool = Pool(max(1, round(params.pool * setup.pairs)), setup.embed_dim, setup.device)
        self._matched = torch.full((setup.pairs,), -1, device=setup.device)
        self._match_telemetry: dict[str, float] = {}

    @classmethod
    def limits(cls, params: RoCLIPParams) -> Sequence[Limit]:
        auc = "AUC of the similarity of captions to their matches"
        return (
            Limit("own_matches", "mean", "share of the matches that are the pair's own caption", "make pool smaller", high=0.5),
            Limit("match_auc", "mean", auc, "train longer or make pool larger", low=mismatches.LEAST_AUC),
        )

    @classmethod
    def training(cls, params: RoCLIPParams, train: TrainRecipe) -> dict[str, int | float]:
        return {"lr": params.lr * train.lr, "epochs": max(1, round(params.epochs * train.epochs))}

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        self._matched.fill_(-1)
        self._match_telemetry = {}
        size = len(self._pool.embeddings)
        if self._matches(epoch) and not len(self._pool):
            chosen = self.setup.rng("pool").permutation(self.setup.pairs)[:size]
            self._pool.push(scorer.embeddings(chosen)[1], torch.from_numpy(chosen).to(self.setup.device))

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (
            Phase(
                name="match" if self._matches(epoch) else "train",
                image_views=("strong" if self.params.augment_images else "light",),
                text_views=("eda" if self.params.augment_texts else "plain",),
            ),
        )

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        if phase.name != "match":
            return super().loss(batch, encoder, phase)
        images = encoder.encode_image(batch.images[0])
        texts = encoder.encode_text(batch.texts[0])
        matches, self._matched[batch.indices] = self._pool.nearest(images)
        self._pool.push(texts, batch.indices)
        return clip_loss(images, matches, encoder.logit_scale)

    def _matches(self, epoch: int) -> bool:
        return (epoch + 1) % self.params.every == 0

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        if self._matches(epoch):
            self._match_telemetry = self._measured(self._matched.cpu().numpy(), scorer)

    def _measured(self, matched: NDArray[np.int64], scorer: Scorer) -> dict[str, float]:
        """Telemetry of an epoch's matches: the share of own captions, and the similarity of captions to their matches.

        Nothing where there are none, as when `bench profile` leaves out the steps.

        Matches are found from the image, so the caption is an independent check: if matching works by content, a caption is
        more similar to its own match than to that of another pair, and the AUC is above 0.5.
        """
        pairs = np.flatnonzero(matched >= 0)
        if not len(pairs):
            return {}
        rows = self.setup.rng("matches").permutation(pairs)[: mismatches.SAMPLE]
        texts, matches = scorer.embeddings(rows)[1], scorer.embeddings(matched[rows])[1]
        return {
            "own_matches": float((matched[pairs] == pairs).mean()),
            "match_auc": mismatches.auc(*mismatches.paired_and_shifted(texts, matches)),
        }

    def observed(self) -> dict[str, NDArray[Any]]:
        return {"text_neighbour": self._matched.cpu().numpy()}

    def telemetry(self) -> dict[str, float]:
        return self._match_telemetry

    def state_dict(self) -> dict[str, Any]:
        return {"pool": self._pool.state_dict(), "matched": self._matched}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._pool.load_state_dict(state["pool"])
        self._matched.copy_(state["matched"])
