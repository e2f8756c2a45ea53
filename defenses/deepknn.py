"""Deep k-NN: pairs whose nearest neighbours belong to another class are dropped."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Params, Scorer
from bench.defenses.filtering import Filter
from bench.registry import register_defense

_SIMILARITIES = 2**27
"""The number of similarities in memory at a time: 512 MiB."""


class DeepKNNParams(Params):
    k: float = Field(default=1.0, gt=0, description="number of neighbours, as a multiple of the mean class size")


@register_defense("deepknn")
class DeepKNN(Filter):
    """Filter: drops pairs outvoted by their nearest neighbours, then retrains (Deep k-NN, Peri et al. 2020, ECCV Workshops).

    The k nearest images in the embedding space of plain CLIP trained on all pairs vote with their classes; a pair is kept if no
    class has more votes than its own. k is the class size (5,000 on CIFAR-10, as reconstructed). The search is exact and costs
    O(pairs^2), on the training device and in chunks.

    Deviations:
    - Pairs have no labels. The class of a pair is the first one of the vocabulary that its caption mentions, or otherwise the
      one with the nearest mean caption embedding.
    - Features are CLIP's unit-length image embeddings.
    - k is the mean class size, since classes differ in size here; votes are not weighted.
    - The model is retrained from new initial weights.
    """

    citations = ("peri2020deepknn",)
    Params = DeepKNNParams
    params: DeepKNNParams

    def judge(self, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        images, classes = self.labelled_images(scorer)
        k = round(self.params.k * len(classes) / len(np.unique(classes)))
        device = self.setup.device
        margins = outvoted(torch.from_numpy(images).to(device), torch.from_numpy(classes).to(device), k).cpu().numpy()
        return margins, margins <= 0


@torch.no_grad()
def outvoted(rows: torch.Tensor, classes: torch.Tensor, k: int) -> torch.Tensor:
    """The margin by which the k nearest other rows outvote a row's own class, as a share of the votes: float32 (n,).

    It is negative if the own class has most votes.

    Parameters
    ----------
    rows : float32 (n, d)
        Unit-length embeddings.
    classes : int64 (n,)
        Their classes.
    k : int
        Number of neighbours, limited to 1..n - 1.
    """
    n = len(rows)
    if n < 2:
        return torch.zeros(n, device=rows.device)
    k = min(max(k, 1), n - 1)
    results = []
    for chunk in torch.split(torch.arange(n, device=rows.device), max(1, _SIMILARITIES // n)):
        similarities = rows[chunk] @ rows.T
        similarities[torch.arange(len(chunk), device=rows.device), chunk] = -torch.inf
        nearest = similarities.topk(k, dim=1).indices
        votes = torch.zeros(len(chunk), int(classes.max()) + 1, dtype=torch.int64, device=rows.device)
        votes.scatter_add_(1, classes[nearest], torch.ones_like(nearest))
        own = classes[chunk][:, None]
        own_votes = votes.gather(1, own)[:, 0]
        results.append((votes.scatter(1, own, 0).amax(dim=1) - own_votes) / k)
    return torch.cat(results)
