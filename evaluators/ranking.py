"""Ranks of correct answers by similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Measurement, share

AT = (1, 5, 10)
_SIMILARITIES = 2**25
"""Number of similarities computed at once: 128 MB."""


def best_ranks(
    queries: torch.Tensor, gallery: torch.Tensor, right: Callable[[torch.Tensor], torch.Tensor]
) -> NDArray[np.int64]:
    """The rank, from 0, of the best correct answer to each query: int64 (n,); the size of the gallery if there is none.

    In a tie, wrong answers come first.

    Parameters
    ----------
    queries, gallery : float32 (n, d), (m, d)
        Unit rows.
    right : callable
        Maps rows of queries, int64 (c,), to their correct answers, bool (c, m).
    """
    found = [torch.empty(0, dtype=torch.int64)]
    for rows in torch.arange(len(queries)).split(max(1, _SIMILARITIES // max(1, len(gallery)))):
        similarity, answers = queries[rows] @ gallery.T, right(rows)
        best = similarity.masked_fill(~answers, -torch.inf).amax(dim=1, keepdim=True)
        found.append(((similarity >= best) & ~answers).sum(dim=1))
    return torch.cat(found).numpy()


def shares(metric: str, task: str, ranks: NDArray[np.int64]) -> list[Measurement]:
    """For each k in `AT`, the share of queries with a correct answer among the first k; {} in `metric` stands for k."""
    return [share(metric.format(k), task, ranks < k) for k in AT]


def numbered(texts: Sequence[str]) -> torch.Tensor:
    """Integer codes of texts, equal for equal texts: int64 (n,)."""
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return torch.tensor([known[text] for text in texts])
