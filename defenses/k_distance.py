"""k-distance: pairs whose images have distant neighbours are dropped."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("k_distance")
class KDistance(DensityFilter):
    """Filter: drops pairs by the distance to the k-th nearest image, then retrains (Ramaswamy et al. 2000; Huang et al. 2025).

    The score is r_k(x), the distance of an image embedding to its k-th nearest neighbour (k = 16) within a random reference set
    of 2,048 images (ICLR 2025). Embeddings are those of plain CLIP trained on all pairs. A tenth of the pairs is dropped, as
    reconstructed. Poisons are not detected if more than k of one kind are in a reference set, since they are neighbours.

    Deviations from the released code:
    - Embeddings have unit length.
    - r_k is the distance to the k-th nearest other image; in that code, and with `as_released`, to the (k+1)-th.
    """

    citations = ("huang2025dao", "ramaswamy2000outliers")
    Params = DensityParams

    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        return released_neighbours(rows, k)[0] if self.params.as_released else neighbours(rows, k)[0][:, -1]
