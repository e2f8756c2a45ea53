"""What a person sees while cells run side by side: a bar each on a terminal, lines with their number in a log."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console

from bench.console import say
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress, bars_on


class JobsProgress:
    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._bars = bars_on(console)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def of(self, number: int) -> MatrixProgress:
        """What shows the cell of that number, counted from 1."""
        return MatrixProgress(self._console, self._cells, number - 1, self._bars)

    def lost(self, number: int, cell: Cell, why: str) -> None:
        """The process of a cell is gone."""
        say(self._console, f"[{number}/{self._cells}] {cell.title}: FAILED {why}")

    def say(self, line: str) -> None:
        say(self._console, line)
