"""Filtering with a clean CLIP: pairs that it finds unlike are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.api import Guide, Params, Scorer
from bench.models import pretrained
from bench.registry import register_defense
from defenses.filtering import Filter


class CLIPFilterParams(Params):
    model: str = Field(
        default="",
        description="clean model as MODEL:WEIGHTS, a tag or file of open_clip; empty: plain CLIP trained without poison",
    )
    threshold: float = Field(default=0.2, ge=-1, le=1, description="least cosine similarity of image and caption")

    @field_validator("model")
    @classmethod
    def _identified(cls, model: str) -> str:
        return pretrained.identified(model) if model else model


@register_defense("clip_filter")
class CLIPFilter(Filter):
    """Drops pairs whose image and caption a clean CLIP finds unlike, then trains on the rest (Yang et al. 2023, ICML).

    A pair stays if the cosine similarity of its embeddings reaches a threshold. Deviations: unless another is named, the clean
    model is plain CLIP trained on the same data and seed without the poison, which knows the clean pairs and is more than a
    defender would have; the threshold's default is a choice of this project, and belongs to a model.
    """

    Params = CLIPFilterParams
    params: CLIPFilterParams

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        return params.model or "clean"

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"threshold": 0.0}

    def keep(self, scorer: Scorer) -> NDArray[np.bool_]:
        return scorer.similarities() >= self.params.threshold
