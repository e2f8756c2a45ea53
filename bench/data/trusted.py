"""Pairs that a defense may assume to be clean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TrustedPairs:
    """Trusted clean pairs, drawn in one fixed order, so that smaller draws are contained in larger ones.

    Parameters
    ----------
    order : int64 (n,)
        All pairs that can be drawn. Nothing is known here about any other pair.
    sources : int64 (n,)
        Their indices in the clean data.
    members : sequence of tuple of int
        The classes that each image of the clean data shows.
    """

    def __init__(self, order: NDArray[np.int64], sources: NDArray[np.int64], members: Sequence[tuple[int, ...]]) -> None:
        self._order = order
        self._sources = sources
        self._members = members
        self._drawn: dict[int, int] = {}

    def draw(self, count: int) -> NDArray[np.int64]:
        """The first `count` pairs, sorted: int64 (count,). Raises ValueError if there are fewer."""
        if not 0 <= count <= len(self._order):
            raise ValueError(
                f"{count} trusted pairs requested, but at most {len(self._order)} are available: half of all pairs"
            )
        drawn = self._order[:count]
        self._drawn |= zip(drawn.tolist(), self._sources[:count].tolist(), strict=True)
        return np.sort(drawn)

    def labels(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """A class that each pair's image shows, int64 (n,); -1 if unknown. Raises ValueError for a pair that was not drawn."""
        rows = np.asarray(pairs).tolist()
        untrusted = next((row for row in rows if row not in self._drawn), None)
        if untrusted is not None:
            raise ValueError(f"pair {untrusted} is not trusted: labels are only available for pairs returned by trusted()")
        return np.array([(*self._members[self._drawn[row]], -1)[0] for row in rows], dtype=np.int64)
