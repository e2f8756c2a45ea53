"""Votes of nearest neighbours, and how many poisoned examples they withstand.

Votes are int64 (m, classes), a row a test point; the first of the classes with most votes is predicted. A prediction's gap is
the least lead over another class, plus one where that class comes later and so loses a tie; it stands while that is positive.
Sizes are numbers of poisoned examples, int64 (m,).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_SIMILARITIES = 2**25
"""How many are held at once: 128 MB."""
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
    """Added, removed or replaced: each moves a gap by 2 at most, so ceil(gap / 2) - 1 are withstood (Jia et al. 2022)."""
    return (gaps - 1) // 2


def inserted_rnn_sizes(gaps: Ints) -> Ints:
    """Added to rNN: each moves a gap by 1 at most."""
    return gaps - 1


def inserted_knn_sizes(neighbours: Ints, count: int) -> Ints:
    """Added to kNN, exactly: e new nearest neighbours of one class push the e farthest of the k out.

    neighbours: classes int64 (m, k) as `knn` gives them.
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
    """How many predictions of rNN stand whatever e examples are added, removed or replaced, the same ones for all points.

    Points are grouped so that no two of a group have the same prediction, those with like gaps together. In a group a removed
    example takes a vote from one prediction at most, as it has one class, and an added one gives a vote against each at most:
    w flips take gaps of (w + 1) e in all. A single flip takes a gap of 2 e at most.
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
