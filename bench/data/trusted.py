"""Pairs that a defense may take for clean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TrustedPairs:
    """Clean pairs in one fixed order, as many as a defense can ever have: int64 (n,).

    Every draw is the beginning of that order, so that all draws together hold no more than the largest. `sources` are their
    positions in the clean data, int64 (n,), and `members` the classes that each image there shows. Nothing here knows of any
    other pair.
    """

    def __init__(self, order: NDArray[np.int64], sources: NDArray[np.int64], members: Sequence[tuple[int, ...]]) -> None:
        self._order = order
        self._sources = sources
        self._members = members
        self._drawn: dict[int, int] = {}

    def draw(self, count: int) -> NDArray[np.int64]:
        """`count` of the pairs, sorted. Raises ValueError where there are not so many."""
        if not 0 <= count <= len(self._order):
            raise ValueError(f"{count} trusted pairs are asked for, and {len(self._order)} can be had: half of all at most")
        drawn = self._order[:count]
        self._drawn |= zip(drawn.tolist(), self._sources[:count].tolist(), strict=True)
        return np.sort(drawn)

    def labels(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """A class that each pair's image shows, int64, -1 where it is unknown. Raises ValueError for one that was not drawn."""
        rows = np.asarray(pairs).tolist()
        strange = next((row for row in rows if row not in self._drawn), None)
        if strange is not None:
            raise ValueError(f"pair {strange} is not trusted: labels are known of pairs that trusted() gave, and of no others")
        return np.array([(*self._members[self._drawn[row]], -1)[0] for row in rows], dtype=np.int64)
