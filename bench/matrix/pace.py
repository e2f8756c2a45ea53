"""How long the rest of something takes."""

from __future__ import annotations

import time


class Pace:
    """The pace since the first step of this process; what an interrupted run did before does not count."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def step(self, share: float) -> None:
        """`share` of the whole is done."""
        if self._first is None:
            self._first = share, time.monotonic()

    def seconds_left(self, share: float) -> float | None:
        """Until the whole is done, `share` of which is; None before a second step."""
        if self._first is None or share <= self._first[0]:
            return None
        first, since = self._first
        return (time.monotonic() - since) / (share - first) * (1 - share)
