"""SLOF: pairs whose images are in a sparser region than their neighbours are dropped."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("slof")
class SLOF(DensityFilter):
    """Filter: drops pairs by the simplified local outlier factor of their images, then retrains (Huang et al. 2025, ICLR).

    The score is the mean of r_k(x) / r_k(o) over the k nearest neighbours o (Schubert et al. 2014), where r_k is the distance
    to the k-th nearest neighbour (k = 16) within a random reference set of 2,048 images. Embeddings are those of plain CLIP
    trained on all pairs. A tenth of the pairs is dropped, as reconstructed. Poisons are not detected if more than k of one kind
    are in a reference set.

    Deviations from the released code:
    - Embeddings have unit length.
    - In that code, and with `as_released`, r_k(x) is the distance to the (k+1)-th nearest other image, and a neighbour after
      the image's own position in the set is replaced by the one before it (an off-by-one error).
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
