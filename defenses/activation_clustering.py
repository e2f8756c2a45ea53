"""Activation clustering: the smaller of two clusters of a class is dropped if it is small enough."""

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
    dimensions: int = Field(default=10, ge=1, description="number of independent components")
    smallest: float = Field(default=0.35, ge=0, le=0.5, description="a cluster with a smaller share of its class is dropped")


@register_defense("activation_clustering")
class ActivationClustering(Filter):
    """Filter: drops the smaller of two activation clusters of a class if it is small, then retrains (Chen et al. 2019, SafeAI).

    The activations of each class are reduced to 10 independent components and split by 2-means; a cluster is judged by its
    relative size, with a threshold of 0.35 (all as reconstructed). Activations are the image embeddings of plain CLIP trained
    on all pairs. The cost is O(pairs d^2).

    Deviations:
    - Pairs have no labels. The class of a pair is the first one of the vocabulary that its caption mentions, or otherwise the
      one with the nearest mean caption embedding.
    - Activations are CLIP's unit-length image embeddings.
    - Detected pairs are dropped, not relabelled.
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
    """The size of each row's cluster, of two, as a share of the n rows (n, d): float64 (n,); 1 if all rows are equal."""
    values = rows.astype(np.float64)
    rank = int(np.linalg.matrix_rank(np.cov(values, rowvar=False), hermitian=True)) if len(values) > 1 else 0
    if not rank:
        return np.ones(len(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "There are some small singular values")
        ica = FastICA(min(dimensions, rank), whiten="unit-variance", whiten_solver="eigh", random_state=seed)
        clusters = KMeans(2, n_init=10, random_state=seed).fit_predict(ica.fit_transform(values)).astype(bool)
    shares: NDArray[np.float64] = np.where(clusters, clusters.mean(), (~clusters).mean())
    return shares
