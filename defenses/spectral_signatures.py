"""Spectral signatures: outliers of a class along its top singular vector are dropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.decomposition import PCA

from bench.api import Params, Scorer
from bench.defenses.filtering import Filter, members
from bench.registry import register_defense


class SpectralSignaturesParams(Params):
    poison: float = Field(default=0.1, gt=0, lt=1, description="epsilon: upper bound of the share of poison in a class")
    factor: float = Field(default=1.5, gt=0, description="share dropped from each class, in multiples of epsilon")


@register_defense("spectral_signatures")
class SpectralSignatures(Filter):
    """Filter: drops outliers along the top singular vector of each class, then retrains (Tran et al. 2018, NeurIPS).

    The score of a pair is the squared projection of its centred embedding onto the top right singular vector of its class; the
    share 1.5 epsilon with the highest scores is dropped from every class. Embeddings are those of plain CLIP trained on all
    pairs. Epsilon is an assumption; its default, as reconstructed, is the larger of the paper's poison shares of a class (5%
    and 10%). The cost is O(pairs d^2).

    Deviations:
    - Pairs have no labels. The class of a pair is the first one of the vocabulary that its caption mentions, or otherwise the
      one with the nearest mean caption embedding.
    - Representations are CLIP's unit-length image embeddings.
    """

    citations = ("tran2018spectral",)
    Params = SpectralSignaturesParams
    params: SpectralSignaturesParams

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        images, classes = self.labelled_images(scorer)
        scores, kept = np.zeros(len(classes), dtype=np.float32), np.ones(len(classes), dtype=bool)
        share = min(1.0, self.params.factor * self.params.poison)
        for pairs in members(classes):
            if len(pairs) > 1:
                outlying = outlyingness(images[pairs])
                scores[pairs] = outlying
                kept[pairs[np.argsort(-outlying, kind="stable")[: round(share * len(pairs))]]] = False
        return scores, kept


def outlyingness(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared projections of the centred rows (n, d), n > 1, on their top right singular vector: float64 (n,)."""
    projected: NDArray[np.float64] = PCA(1, svd_solver="covariance_eigh").fit_transform(rows.astype(np.float64))
    return np.square(projected[:, 0])
