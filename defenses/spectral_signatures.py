"""Spectral signatures: the pairs of a class that lie farthest out along its main direction are dropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.decomposition import PCA

from bench.api import Params, Scorer
from bench.defenses.filtering import Filter, members
from bench.registry import register_defense


class SpectralSignaturesParams(Params):
    poison: float = Field(default=0.1, gt=0, lt=1, description="epsilon: largest expected share of poison in a class")
    factor: float = Field(default=1.5, gt=0, description="what is dropped of each class, in multiples of that share")


@register_defense("spectral_signatures")
class SpectralSignatures(Filter):
    """Drops the outliers along the top singular vector of each class, then trains anew (Tran et al. 2018, NeurIPS).

    A pair's score is the squared projection of its centred embedding on the top right singular vector of its class; the 1.5
    epsilon highest scores of every class go. Embeddings are those of plain CLIP trained on all pairs. Epsilon is an assumption;
    its default, as reconstructed, is the larger of the paper's poison shares of a class (5% and 10%). Deviations: a pair has no
    label, so its class is the class of the data set's vocabulary that its caption names, or where it names none the one with
    the nearest mean caption embedding; representations are CLIP's unit image embeddings. It takes O(pairs d squared).
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
    projected = PCA(1, svd_solver="covariance_eigh").fit_transform(rows.astype(np.float64))
    return projected[:, 0] ** 2
