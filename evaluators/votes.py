"""Votes of nearest neighbours, and the number of poisoned examples they withstand.

Votes are int64 (m, classes), one row for each test point. The class with the most votes is predicted, the first one in a tie.
The gap of a prediction is its smallest lead over another class, plus one if that class comes later and so loses a tie; the
prediction stands while the gap is positive. Sizes are numbers of poisoned examples, int64 (m,).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_SIMILARITIES = 2**25
"""Number of similarities computed at once: 128 MB."""
Ints = NDArray[np.int64]


def knn(points: torch.Tensor, voters: torch.Tensor, classes: Ints, k: int) -> Ints:
    """Classes of the k most similar voters, the most similar first: int64 (m, k). points (m, d), voters (n, d): unit rows."""
    nearest = [(rows @ voters.T).topk(k, dim=1).indices for rows in _chunks(points, len(voters))]
    found: Ints = classes[torch.cat(nearest).numpy()]
    return found


def rnn(points: torch.Tensor, voters: torch.Tensor, classes: Ints, least: float, count: int) -> Ints:
    """Votes of all voters with a similarity of at least `least`; `count` classes."""
    ballots = torch.nn.functional.one_hot(torch.from_numpy(classes), count).double()
    votes = [(rows @ voters.T >= least).double() @ ballots for rows in _chunks(points, len(voters))]
    return torch.cat(votes).long().numpy()


def _chunks(points: torch.Tensor, others: int) -> tuple[torch.Tensor, ...]:
    return tuple(points.split(max(1, _SIMILARITIES // others)))


def decided(votes: Ints) -> tuple[Ints, Ints]:
    """Predicted class and gap of each point: int64 (m,) each."""
    predicted, rows = votes.argmax(axis=1), np.arange(len(votes))
    lead = votes[rows, predicted][:, None] - votes + (predicted[:, None] < np.arange(votes.shape[1]))
    lead[rows, predicted] = np.iinfo(np.int64).max
    return predicted, lead.min(axis=1)


def general_sizes(gaps: Ints) -> Ints:
    """Sizes withstood if examples are added, removed or replaced: each changes a gap by at most 2 (Jia et al. 2022)."""
    return (gaps - 1) // 2


def inserted_rnn_sizes(gaps: Ints) -> Ints:
    """Sizes withstood by rNN if examples are added: each changes a gap by at most 1."""
    return gaps - 1


def inserted_knn_sizes(neighbours: Ints, count: int) -> Ints:
    """Sizes withstood by kNN if examples are added, exactly: e new nearest neighbours displace the e farthest of the k.

    `neighbours` are the classes that `knn` returns, int64 (m, k).
    """
    sizes = []
    for row in neighbours:
        votes = np.zeros((len(row) + 1, count), dtype=np.int64)
        votes[1:] = np.cumsum(row[:, None] == np.arange(count), axis=0)
        left, added = votes[::-1], np.arange(len(row) + 1)
        predicted = left[0].argmax()
        lead = left[:, [predicted]] - left - added[:, None] + (predicted < np.arange(count))
        stands = np.delete(lead, predicted, axis=1).min(axis=1) >= 1
        sizes.append(int(stands.argmin()) - 1)
    return np.array(sizes, dtype=np.int64)


def stand_jointly(gaps: Ints, predicted: Ints, e: int) -> int:
    """The number of rNN predictions that stand whichever e examples are added, removed or replaced, the same for all points.

    Points are grouped such that predictions within a group differ and gaps are similar. Within a group, a removed example takes
    a vote from at most one prediction, since it has one class, and an added one gives at most one vote against each: flipping w
    predictions needs gaps of at most (w + 1) e in total, and each of at most 2 e.
    """
    order = np.lexsort((gaps, predicted))
    _, first, size = np.unique(predicted[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, size)
    flips = 0
    for group in range(int(size.max(initial=0))):
        least = np.sort(gaps[order[place == group]])
        w = np.arange(1, len(least) + 1)
        possible = (np.cumsum(least) <= (w + 1) * e) & (least <= 2 * e)
        flips += int(w[possible].max(initial=0))
    return len(gaps) - flips
