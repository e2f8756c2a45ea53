"""Activation clustering: a class that falls into a large and a small cluster loses the small one."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from bench.api import Params, Scorer
from bench.defenses.filtering import Filter, members
from bench.registry import register_defense


class ActivationClusteringParams(Params):
    dimensions: int = Field(default=10, ge=1, description="independent components that a class is reduced to")
    smallest: float = Field(default=0.35, ge=0, le=0.5, description="a cluster below this share of its class is poison")


@register_defense("activation_clustering")
class ActivationClustering(Filter):
    """Drops the smaller of two clusters where it is small for its class, then trains anew (Chen et al. 2019, SafeAI).

    Each class's activations are reduced to 10 independent components and parted by 2-means; clusters are judged by relative
    size, with a threshold of 0.35, all as reconstructed. Activations are image embeddings of plain CLIP trained on all pairs.
    Deviations: a pair has no label, so its class is the class of the data set's vocabulary that its caption names, or where it
    names none the one with the nearest mean caption embedding; activations are CLIP's unit image embeddings; what is found is
    dropped, not relabelled. It takes O(pairs d squared).
    """

    citations = ("chen2019activationclustering",)
    Params = ActivationClusteringParams
    params: ActivationClusteringParams

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        images, classes = self.labelled_images(scorer)
        seed = int(self.setup.rng("clusters").integers(2**31))
        shares = np.ones(len(classes))
        for pairs in members(classes):
            shares[pairs] = cluster_shares(images[pairs], self.params.dimensions, seed)
        return (1 - shares).astype(np.float32), shares >= self.params.smallest


def cluster_shares(rows: NDArray[np.float32], dimensions: int, seed: int) -> NDArray[np.float64]:
    """The share of rows (n, d) in the cluster, of two, that each is in: float64 (n,); 1 where there is nothing to part."""
    values = rows.astype(np.float64)
    rank = int(np.linalg.matrix_rank(np.cov(values, rowvar=False), hermitian=True)) if len(values) > 1 else 0
    if not rank:
        return np.ones(len(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "There are some small singular values")
        ica = FastICA(min(dimensions, rank), whiten="unit-variance", whiten_solver="eigh", random_state=seed)
        clusters = KMeans(2, n_init=10, random_state=seed).fit_predict(ica.fit_transform(values)).astype(bool)
    return np.where(clusters, clusters.mean(), (~clusters).mean())
