"""DAO: local outliers, weighted by the local intrinsic dimension of their neighbours."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("dao")
class DAO(DensityFilter):
    """Filter: drops pairs by the dimensionality-aware outlier score of their images, then retrains (Huang et al. 2025, ICLR).

    The score is the mean of LID(o) ln( r_k(x) / r_k(o) ) over the k nearest neighbours o (Anderberg et al. 2024), where r_k is
    the distance to the k-th nearest neighbour (k = 16) within a random reference set of 2,048 images, and LID is the maximum
    likelihood estimate -k / sum_i ln( r_i / r_k ) of the local intrinsic dimension. Embeddings are those of plain CLIP trained
    on all pairs. A tenth of the pairs is dropped, as reconstructed. Poisons are not detected if more than k of one kind are in
    a reference set.

    Deviations from the released code:
    - Embeddings have unit length.
    - In that code, and with `as_released`, r_k(x) is the distance to the (k+1)-th nearest other image, a neighbour after the
      image's own position in the set is replaced by the one before it (an off-by-one error), LID(o) includes o itself at
      distance 0, and 1e-4 is added to its ratios.
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
    """Maximum likelihood estimate of the local intrinsic dimension (Amsaleg et al. 2015): float (n,).

    `distances` are positive and ascending, (n, k). If all neighbours are equally far, the estimate is limited to a million k.
    """
    return distances.shape[1] / (distances[:, -1:] / distances).log().sum(dim=1).clamp(min=1e-6)
