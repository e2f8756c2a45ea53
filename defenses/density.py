"""What filters by local density share: distances to neighbours within random reference sets."""

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
"""Distances of unit rows below this are those of copies."""


class DensityParams(Params):
    k: int = Field(default=16, ge=1, description="neighbours")
    reference_size: int = Field(default=2048, ge=2, description="pairs of a random set, within which neighbours are sought")
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of the pairs that is dropped: those of the highest score")
    as_released: bool = Field(default=False, description="neighbours and distances as the released code takes them")


class DensityFilter(Filter):
    """Drops the pairs whose images lie in the sparsest places, then trains anew.

    Pairs are dealt at random to sets of about `reference_size`; the score of one follows from its neighbours in its set.
    """

    params: DensityParams

    def __init__(self, params: DensityParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._reference = np.zeros(setup.pairs, dtype=np.int64)

    @abstractmethod
    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        """A score for each of one set's image embeddings: rows float32 (n, d), 0 < k < n - 1; float32 (n,)."""

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
    """Distances to the k nearest other rows, nearest first, at least 1e-6, and which they are: (n, k) each."""
    distances = _distances(rows).fill_diagonal_(torch.inf)
    nearest, found = distances.topk(k, dim=1, largest=False)
    return nearest.clamp(min=_LEAST), found


def released_neighbours(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the released code has in place of `neighbours`, with its slips.

    radius (n,): the distance to the (k+1)-th nearest other row. found (n, k): positions in the list without the row itself,
    used as rows: every neighbour behind a row's own place is the one before it. around (n, k + 1): distances to the k + 1
    nearest rows with the row itself, at 0, among them.
    """
    distances = _distances(rows)
    others = distances[~torch.eye(len(rows), dtype=torch.bool, device=rows.device)].view(len(rows), -1)
    away, found = others.sort(dim=1)
    return away[:, k], found[:, :k], distances.sort(dim=1).values[:, : k + 1]


def _distances(rows: torch.Tensor) -> torch.Tensor:
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
