"""Filtering with a clean CLIP: pairs of low image-caption similarity are dropped."""

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
        description="clean model as MODEL:WEIGHTS, an open_clip tag or a file; empty: plain CLIP trained without poison",
    )
    threshold: float = Field(
        default=0.5, description="smallest similarity kept; 0: mean over all images and captions, 1: mean over the pairs"
    )

    @field_validator("model")
    @classmethod
    def _identified(cls, model: str) -> str:
        return pretrained.identified(model) if model else model


@register_defense("clip_filter")
class CLIPFilter(Filter):
    """Filter: drops pairs whose image-caption similarity under a clean CLIP is low, then trains on the rest (Yang et al. 2023).

    A pair is kept if the cosine similarity of its embeddings reaches a threshold (ICML 2023). The clean model is any model of
    open_clip; by default it is plain CLIP trained on the same data and seed without the poison, which is more than a defender
    would have.

    Deviations:
    - The threshold is relative, since similarities of different models are not comparable: 0 is the mean similarity over all
      images and captions, 1 the mean over the pairs. Its default, 0.5, is a choice of this project.
    """

    citations = ("yang2023multimodal",)
    Params = CLIPFilterParams
    params: CLIPFilterParams

    def __init__(self, params: CLIPFilterParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._mismatch_telemetry: dict[str, float] = {}

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        what = "AUC of the clean model's similarities on planted mismatches"
        advice = "use a clean model that was trained on similar images"
        return (*super().limits(params), Limit("mismatch_auc", "last", what, advice, low=mismatches.LEAST_AUC))

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        return params.model or "clean"

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        similarities, image_sum, text_sum = [], np.zeros(1), np.zeros(1)
        for images, texts in self.embeddings(scorer):
            similarities.append((images * texts).sum(axis=1, dtype=np.float64))
            image_sum, text_sum = image_sum + images.sum(axis=0), text_sum + texts.sum(axis=0)
        pairs: NDArray[np.float64] = np.concatenate(similarities)
        mismatched = float(image_sum @ text_sum) / len(pairs) ** 2
        kept = pairs >= mismatched + self.params.threshold * (pairs.mean() - mismatched)
        return -pairs.astype(np.float32), kept

    def select(self, scorer: Scorer) -> None:
        super().select(scorer)
        auc = mismatches.auc(*mismatches.planted(scorer, self.setup.pairs, self.setup.rng))
        self._mismatch_telemetry = {"mismatch_auc": auc}

    def telemetry(self) -> dict[str, float]:
        return super().telemetry() | self._mismatch_telemetry

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"telemetry": self._mismatch_telemetry}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._mismatch_telemetry = state.get("telemetry", {})
