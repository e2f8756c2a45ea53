"""SLOF: pairs whose images lie in a sparser place than their neighbours are dropped."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("slof")
class SLOF(DensityFilter):
    """Drops the pairs of the largest simplified local outlier factor, then trains anew (Huang et al. 2025, ICLR).

    The score is the mean over the k nearest images o of r_k(x) / r_k(o), r_k the distance to the k-th nearest image in a
    random set of 2,048, with k = 16 (Schubert et al. 2014), in the embedding of plain CLIP trained on all pairs. The share that
    is dropped, a tenth, is as reconstructed. A set with more than k poisons of one kind hides them.
    Deviations: embeddings are of unit length, in the released code they are not. With `as_released` r_k(x) is the distance to
    the (k+1)-th nearest other image, and a neighbour behind the image's own place in the set is the one before it, as there.
    """

    citations = ("huang2025dao", "schubert2014slof")
    Params = DensityParams

    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        if self.params.as_released:
            radius, found, around = released_neighbours(rows, k)
            return (radius[:, None] / around[found, k]).mean(dim=1).nan_to_num(1000, posinf=1000, neginf=0)
        distances, found = neighbours(rows, k)
        radius = distances[:, -1]
        return (radius[:, None] / radius[found]).mean(dim=1)
