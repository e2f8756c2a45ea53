"""Progress of cells that run in parallel: a bar for each on a terminal, numbered lines in a log."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console

from bench.console import print_plain
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress, progress_bars


class JobsProgress:
    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._bars = progress_bars(console)
        self._shown: dict[int, MatrixProgress] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def of(self, number: int) -> MatrixProgress:
        """The progress of the cell with that number, from 1."""
        if number not in self._shown:
            self._shown[number] = MatrixProgress(self._console, self._cells, number - 1, self._bars)
        return self._shown[number]

    def worker_died(self, number: int, cell: Cell, reason: str) -> None:
        self.print(f"[{number}/{self._cells}] {cell.title}: FAILED {reason}")

    def print(self, line: str) -> None:
        print_plain(self._console, line)
