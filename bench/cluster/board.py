"""Where workers note what they do, for the driver to show."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

_SECONDS_BETWEEN_NOTES = 1.0


@dataclass(frozen=True)
class Note:
    """Where a cell runs, and how much of its training is done."""

    host: str
    share: float = 0.0
    doing: str = ""


class Board:
    """The latest note on each cell; lives as an actor beside the driver."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    def pin(self, key: str, note: Note) -> None:
        self._notes[key] = note

    def read(self) -> dict[str, Note]:
        return self._notes


class BoardProgress:
    """Pins what a worker's executor tells of one cell."""

    def __init__(self, board: Any, key: str) -> None:
        self._board = board
        self._key = key
        self._host = platform.node()
        self._share = 0.0
        self._pinned = 0.0

    def images_loaded(self, count: int) -> None:
        self._seldom("loading images")

    def cell_started(self, title: str) -> None:
        self._pin("starting")

    def cell_skipped(self, title: str, why: str) -> None: ...

    def cell_postponed(self, title: str) -> None: ...

    def cell_done(self, title: str) -> None: ...

    def cell_failed(self, title: str, error: str) -> None: ...

    def stage(self, name: str) -> None:
        self._share = 1.0
        self._pin(name)

    def step(self, share: float, pairs_per_second: float, loss: float) -> None:
        self._share = share
        self._seldom(f"{share:.0%} at {pairs_per_second:,.0f} pairs/s")

    def epoch(self, curve: dict[str, Any], epochs: int) -> None: ...

    def _seldom(self, doing: str) -> None:
        if time.monotonic() - self._pinned > _SECONDS_BETWEEN_NOTES:
            self._pin(doing)

    def _pin(self, doing: str) -> None:
        self._pinned = time.monotonic()
        self._board.pin.remote(self._key, Note(self._host, self._share, doing))
