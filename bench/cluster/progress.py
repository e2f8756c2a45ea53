"""What a person sees while a cluster works: where each cell runs, what is done, how long the rest will take."""

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
    """Lines on cells that begin and end, and a bar over all; without a terminal a line a minute instead."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._began = time.monotonic()
        self._told = self._began
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

    def cell_ended(self, cell: Cell, outcome: str, why: str = "") -> None:
        """`outcome` is done, cached, failed or unsupported; `why` what is to be said of it."""
        self._outcomes[outcome] += 1
        if outcome != "done":
            self._before.pop(cell.key, None)
        host = f" on {self._hosts.pop(cell.key)}" if cell.key in self._hosts else ""
        self._say(f"[{self._outcomes.total()}/{self._cells}] {cell.title}: {why or outcome + host}")

    def show(self, running: Sequence[tuple[Cell, HeartbeatState]]) -> None:
        """`running` are cells with what their workers said last."""
        for cell, beat in running:
            if self._hosts.get(cell.key) != beat.host:
                self._hosts[cell.key] = beat.host
                self._say(f"    {cell.title}: runs on {beat.host}")
            if beat.first is not None:
                self._before.setdefault(cell.key, beat.first)
        shares = sum(beat.share or 0.0 for _, beat in running)
        summary = self._summary(len(running), shares)
        self._bars.update(self._task, completed=self._outcomes.total() + shares, description=summary)
        if not self._console.is_terminal and time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self._say(
                f"    {summary}; " + ", ".join(f"{cell.title} {beat.stage} {beat.share or 0:.0%}" for cell, beat in running)
            )

    def _summary(self, running: int, shares: float) -> str:
        ended, failed = self._outcomes.total(), self._outcomes["failed"]
        worked = self._outcomes["done"] + shares - sum(self._before.values())  # without what earlier runs did
        left = (time.monotonic() - self._began) / worked * (self._cells - ended - shares) if worked > 0 else None
        eta = f", ETA {left:.0f} s" if left is not None else ""
        return f"{ended - failed} of {self._cells} cells done, {failed} failed, {running} running{eta}"

    def _say(self, line: str) -> None:
        print_plain(self._console, line)
