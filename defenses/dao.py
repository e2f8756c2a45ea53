"""DAO: local outliers, weighed by the dimension of the place that they stand out from."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("dao")
class DAO(DensityFilter):
    """Drops the pairs of the largest dimensionality-aware outlier score, then trains anew (Huang et al. 2025, ICLR).

    The score is the mean over the k nearest images o of LID(o) ln( r_k(x) / r_k(o) ) (Anderberg et al. 2024): r_k is the
    distance to the k-th nearest image in a random set of 2,048, with k = 16, LID the maximum likelihood estimate
    -k / sum_i ln( r_i / r_k ) of the local intrinsic dimension, all in the embedding of plain CLIP trained on all pairs. The
    share that is dropped, a tenth, is as reconstructed. A set with more than k poisons of one kind hides them.
    Deviations: embeddings are of unit length, in the released code they are not. With `as_released` r_k(x) is the distance to
    the (k+1)-th nearest other image, a neighbour behind the image's own place in the set is the one before it, LID(o) counts o
    itself at distance 0, and its ratios have 1e-4 added, as there.
    """

    citations = ("huang2025dao", "anderberg2024dao")
    Params = DensityParams

    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        if self.params.as_released:
            radius, found, around = released_neighbours(rows, k)
            lids = -k / (around[:, :k] / around[:, k:] + 1e-4).log().sum(dim=1)
            scores = lids[found] * (radius[:, None] / around[found, k]).log()
            return scores.mean(dim=1).nan_to_num(1000, posinf=1000, neginf=0)
        distances, found = neighbours(rows, k)
        radius = distances[:, -1]
        return (lid(distances)[found] * (radius[:, None] / radius[found]).log()).mean(dim=1)


def lid(distances: torch.Tensor) -> torch.Tensor:
    """Local intrinsic dimension by maximum likelihood (Amsaleg et al. 2015) from positive distances (n, k), ascending: (n,).

    It is finite, at most a million k, where all neighbours are equally far.
    """
    return distances.shape[1] / (distances[:, -1:] / distances).log().sum(dim=1).clamp(min=1e-6)
