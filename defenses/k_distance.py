"""k-distance: pairs whose images have no near neighbours are dropped."""

from __future__ import annotations

import torch

from bench.defenses.density import DensityFilter, DensityParams, neighbours, released_neighbours
from bench.registry import register_defense


@register_defense("k_distance")
class KDistance(DensityFilter):
    """Drops the pairs whose k-th nearest image is farthest, then trains anew (Ramaswamy et al. 2000; Huang et al. 2025, ICLR).

    The score is r_k(x), the distance from an image's embedding to the k-th nearest in a random set of 2,048, with k = 16, in
    the embedding of plain CLIP trained on all pairs. The share that is dropped, a tenth, is as reconstructed. A set with more
    than k poisons of one kind hides them: they are each other's neighbours.
    Deviations: embeddings are of unit length, in the released code they are not; with `as_released` r is the distance to the
    (k+1)-th nearest other image, as there.
    """

    citations = ("huang2025dao", "ramaswamy2000outliers")
    Params = DensityParams

    def sparsity(self, rows: torch.Tensor, k: int) -> torch.Tensor:
        return released_neighbours(rows, k)[0] if self.params.as_released else neighbours(rows, k)[0][:, -1]
