"""Base of filters, which drop pairs by their embeddings under a trained model and train plain CLIP on the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestCentroid

from bench.api import Guide, Limit, Meaning, Params, Phase, Scorer, TrainSetup
from bench.defenses.clip import CLIP

_CHUNK = 8192


class Filter(CLIP):
    """Plain CLIP, trained from new initial weights on the pairs that `judge` keeps."""

    params: Any

    def __init__(self, params: Params, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._kept = np.ones(setup.pairs, dtype=bool)
        self._scores = np.full(setup.pairs, np.nan, dtype=np.float32)

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        return "undefended"

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        kept = "share of the pairs that the filter keeps"
        return (
            Limit("dropped", "last", "number of pairs that the filter drops", "use stricter parameters", low=1, unit=""),
            Limit("safe_share", "last", kept, "use milder parameters", low=0.2),
        )

    @classmethod
    def meaning(cls, params: Any) -> Meaning:
        return Meaning(safe_share="safe_share")

    @abstractmethod
    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Score all pairs and decide which to keep.

        Returns
        -------
        scores : float32 (pairs,)
            Higher is more suspicious.
        kept : bool (pairs,)
            The pairs to train on.
        """

    def select(self, scorer: Scorer) -> None:
        self._scores, self._kept = self.judge(scorer)
        if not self._kept.any():
            raise ValueError(f"{self.name} drops every pair; use milder parameters")

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase(indices=np.flatnonzero(self._kept)),)

    def observed(self) -> dict[str, NDArray[Any]]:
        return {"safe": self._kept}

    def scores(self) -> NDArray[np.float32]:
        return self._scores

    def telemetry(self) -> dict[str, float]:
        return {"safe_share": float(self._kept.mean()), "dropped": int((~self._kept).sum())}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": torch.from_numpy(self._kept), "scores": torch.from_numpy(self._scores)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept, self._scores = state["kept"].numpy().copy(), state["scores"].numpy().copy()

    def embeddings(self, scorer: Scorer) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield image and text embeddings of all pairs, in order and in chunks: float32 (n, d) each."""
        for start in range(0, self.setup.pairs, _CHUNK):
            images, texts = scorer.embeddings(np.arange(start, min(start + _CHUNK, self.setup.pairs)))
            yield images.cpu().numpy(), texts.cpu().numpy()

    def labelled_images(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Image embeddings and a class label of each pair, for filters that need labels.

        Needs 8 d bytes of memory for each pair: 8 GB for a million pairs at d = 1,024.

        Returns
        -------
        images : float32 (pairs, d)
            Unit-length embeddings.
        classes : int64 (pairs,)
            See `caption_classes`.
        """
        images, texts = (np.concatenate(parts) for parts in zip(*self.embeddings(scorer), strict=True))
        return images, caption_classes(self.setup.named(), texts)


def caption_classes(named: NDArray[np.int64], texts: NDArray[np.float32]) -> NDArray[np.int64]:
    """A class for each pair: the one that its caption mentions, or otherwise the one with the nearest mean caption embedding.

    Parameters
    ----------
    named : int64 (n,)
        The class that each caption mentions; -1 if it mentions none.
    texts : float32 (n, d)
        Caption embeddings.

    Returns
    -------
    int64 (n,)
        All 0 if fewer than two classes are mentioned.
    """
    known = named >= 0
    if len(np.unique(named[known])) < 2:
        return np.zeros_like(named)
    classes = named.copy()
    if not known.all():
        classes[~known] = NearestCentroid().fit(texts[known], named[known]).predict(texts[~known])
    return classes


def members(classes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The pairs of each class: a sorted int64 array for each."""
    order = np.argsort(classes, kind="stable")
    _, starts = np.unique(classes[order], return_index=True)
    return np.split(order, starts[1:])
