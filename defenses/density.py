"""Base of filters by local density: distances to neighbours within random reference sets."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Params, Scorer, TrainSetup
from bench.defenses import split
from bench.defenses.filtering import Filter

_LEAST = 1e-6
"""Smaller distances between unit rows are those of duplicates."""


class DensityParams(Params):
    k: int = Field(default=16, ge=1, description="number of neighbours")
    reference_size: int = Field(default=2048, ge=2, description="size of the random reference sets")
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of the pairs dropped, those with the highest scores")
    as_released: bool = Field(default=False, description="compute neighbours and distances as in the released code")


class DensityFilter(Filter):
    """Drops the pairs whose images are in the sparsest regions, then retrains.

    Pairs are divided at random into reference sets of about `reference_size`; a pair is scored by its neighbours in its set.
    """

    params: DensityParams

    def __init__(self, params: DensityParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._reference = np.zeros(setup.pairs, dtype=np.int64)

    @abstractmethod
    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        """Score the image embeddings of a reference set, float32 (n, d), with 0 < k < n - 1: float32 (n,)."""

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        order = self.setup.rng("reference").permutation(self.setup.pairs)
        scores = np.zeros(len(order), dtype=np.float32)
        for number, pairs in enumerate(np.array_split(order, max(1, round(len(order) / self.params.reference_size)))):
            images, _ = scorer.embeddings(pairs)
            self._reference[pairs] = number
            scores[pairs] = self.sparsity(images, max(1, min(self.params.k, len(pairs) - 2))).cpu().numpy()
        return scores, split.top(-scores, 1 - self.params.drop)

    def observed(self) -> dict[str, NDArray[Any]]:
        return super().observed() | {"reference": self._reference}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"reference": torch.from_numpy(self._reference)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._reference = state["reference"].numpy().copy()


def neighbours(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances to the k nearest other rows, ascending and at least 1e-6, and their indices: (n, k) each."""
    distances = _distances(rows).fill_diagonal_(torch.inf)
    nearest, found = distances.topk(k, dim=1, largest=False)
    return nearest.clamp(min=_LEAST), found


def released_neighbours(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The counterpart of `neighbours` in the released code, including its errors.

    Returns
    -------
    radius : (n,)
        Distance to the (k+1)-th nearest other row.
    found : (n, k)
        Indices of neighbours in the list without the row itself, used as row indices: a neighbour after the row's own position
        is replaced by the one before it.
    around : (n, k + 1)
        Distances to the k + 1 nearest rows, including the row itself at 0.
    """
    distances = _distances(rows)
    others = distances[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)].view(len(rows), -1)
    away, found = others.sort(dim=1)
    return away[:, k], found[:, :k], distances.sort(dim=1).values[:, : k + 1]


def _distances(rows: torch.Tensor) -> torch.Tensor:
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
