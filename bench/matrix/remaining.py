"""Estimated time to completion."""

from __future__ import annotations

import time


class RemainingTime:
    """Extrapolates from the first step of this process; what an interrupted run did before does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def step(self, share: float) -> None:
        """Record that the fraction `share` of the work is done."""
        if self._first is None:
            self._first = share, time.monotonic()

    def seconds(self, share: float) -> float | None:
        """Seconds until completion, with the fraction `share` done; None before a second step."""
        if self._first is None or share <= self._first[0]:
            return None
        first, since = self._first
        return (time.monotonic() - since) / (share - first) * (1 - share)
