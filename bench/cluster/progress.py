"""Progress of cells on a cluster: where each runs, what is done, and the estimated time to completion."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bench.console import can_redraw, print_plain
from bench.matrix.expand import Cell
from bench.matrix.heartbeat import HeartbeatState

_SECONDS_BETWEEN_LINES = 60.0


class ClusterProgress:
    """A line when a cell starts or ends, and a bar for the whole matrix; without a terminal, a line every minute."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._started = time.monotonic()
        self._reported = self._started
        self._outcomes: Counter[str] = Counter()
        self._hosts: dict[str, str] = {}
        self._before: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not can_redraw(console),
        )
        self._task = self._bars.add_task("", total=float(cells))

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def cell_ended(self, cell: Cell, outcome: str, message: str = "") -> None:
        """Report the outcome of a cell: done, cached, failed or unsupported, with an optional message."""
        self._outcomes[outcome] += 1
        if outcome != "done":
            self._before.pop(cell.key, None)
        host = f" on {self._hosts.pop(cell.key)}" if cell.key in self._hosts else ""
        self._print(f"[{self._outcomes.total()}/{self._cells}] {cell.title}: {message or outcome + host}")

    def show(self, running: Sequence[tuple[Cell, HeartbeatState]]) -> None:
        """Report the running cells, with their last heartbeats."""
        for cell, beat in running:
            if self._hosts.get(cell.key) != beat.host:
                self._hosts[cell.key] = beat.host
                self._print(f"    {cell.title}: running on {beat.host}")
            if beat.first is not None:
                self._before.setdefault(cell.key, beat.first)
        shares = sum(beat.share or 0.0 for _, beat in running)
        summary = self._summary(len(running), shares)
        self._bars.update(self._task, completed=self._outcomes.total() + shares, description=summary)
        if not self._console.is_terminal and time.monotonic() - self._reported > _SECONDS_BETWEEN_LINES:
            self._reported = time.monotonic()
            self._print(
                f"    {summary}; " + ", ".join(f"{cell.title} {beat.stage} {beat.share or 0:.0%}" for cell, beat in running)
            )

    def _summary(self, running: int, shares: float) -> str:
        ended, failed = self._outcomes.total(), self._outcomes["failed"]
        progress = self._outcomes["done"] + shares - sum(self._before.values())  # without the work of earlier runs
        left = (time.monotonic() - self._started) / progress * (self._cells - ended - shares) if progress > 0 else None
        eta = f", ETA {left:.0f} s" if left is not None else ""
        return f"{ended - failed} of {self._cells} cells done, {failed} failed, {running} running{eta}"

    def _print(self, line: str) -> None:
        print_plain(self._console, line)
