"""Where the right answers stand in a ranking by similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Measurement, share

AT = (1, 5, 10)
_SIMILARITIES = 2**25
"""How many are held at once: 128 MB."""


def best_ranks(
    queries: torch.Tensor, gallery: torch.Tensor, right: Callable[[torch.Tensor], torch.Tensor]
) -> NDArray[np.int64]:
    """The place, counted from 0, of the best right answer to each query: int64 (n,); the gallery's size where there is none.

    queries: unit rows float32 (n, d); gallery: (m, d); right: rows int64 (c,) of queries -> bool (c, m), the right answers.
    A wrong answer that is as similar as the best right one stands before it.
    """
    found = [torch.empty(0, dtype=torch.int64)]
    for rows in torch.arange(len(queries)).split(max(1, _SIMILARITIES // max(1, len(gallery)))):
        similarity, answers = queries[rows] @ gallery.T, right(rows)
        best = similarity.masked_fill(~answers, -torch.inf).amax(dim=1, keepdim=True)
        found.append(((similarity >= best) & ~answers).sum(dim=1))
    return torch.cat(found).numpy()


def shares(metric: str, task: str, ranks: NDArray[np.int64]) -> list[Measurement]:
    """For each k of `AT` the share of queries with a right answer among the k best, as `metric` with k in place of {}."""
    return [share(metric.format(k), task, ranks < k) for k in AT]


def numbered(texts: Sequence[str]) -> torch.Tensor:
    """Equal texts have equal numbers: int64 (n,)."""
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return torch.tensor([known[text] for text in texts])
