"""Filtering with a clean CLIP: pairs that it finds unlike are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.api import Guide, Limit, Params, Scorer, TrainSetup
from bench.defenses import mismatches
from bench.defenses.filtering import Filter
from bench.models import pretrained
from bench.registry import register_defense


class CLIPFilterParams(Params):
    model: str = Field(
        default="",
        description="clean model as MODEL:WEIGHTS, a tag or file of open_clip; empty: plain CLIP trained without poison",
    )
    threshold: float = Field(
        default=0.5, description="least similarity; 0 is the mean of any image with any caption, 1 the mean of the pairs"
    )

    @field_validator("model")
    @classmethod
    def _identified(cls, model: str) -> str:
        return pretrained.identified(model) if model else model


@register_defense("clip_filter")
class CLIPFilter(Filter):
    """Drops pairs whose image and caption a clean CLIP finds unlike, then trains on the rest (Yang et al. 2023, ICML).

    A pair stays if the cosine similarity of its embeddings reaches a threshold. Deviations: the threshold is given on a scale
    from the mean similarity of all images with all captions to that of the pairs, since similarities of one model mean nothing
    for another, and its default, half-way, is a choice of this project; unless another is named, the clean model is plain CLIP
    trained on the same data and seed without the poison, which knows the clean pairs and is more than a defender would have.
    """

    citations = ("yang2023multimodal",)
    Params = CLIPFilterParams
    params: CLIPFilterParams

    def __init__(self, params: CLIPFilterParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._told: dict[str, float] = {}

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        told = "AUC of the clean model's similarities on planted mismatches"
        best = Limit("mismatch_auc", "last", told, "use a clean model that knows such images", low=mismatches.LEAST_AUC)
        return (*super().limits(params), best)

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        return params.model or "clean"

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        similarities, image_sum, text_sum = [], np.zeros(1), np.zeros(1)
        for images, texts in self.embeddings(scorer):
            similarities.append((images * texts).sum(axis=1, dtype=np.float64))
            image_sum, text_sum = image_sum + images.sum(axis=0), text_sum + texts.sum(axis=0)
        pairs = np.concatenate(similarities)
        mismatched = image_sum @ text_sum / len(pairs) ** 2
        kept = pairs >= mismatched + self.params.threshold * (pairs.mean() - mismatched)
        return -pairs.astype(np.float32), kept

    def select(self, scorer: Scorer) -> None:
        super().select(scorer)
        self._told = {"mismatch_auc": mismatches.auc(*mismatches.planted(scorer, self.setup.pairs, self.setup.rng))}

    def telemetry(self) -> dict[str, float]:
        return super().telemetry() | self._told

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"told": self._told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._told = state.get("told", {})
