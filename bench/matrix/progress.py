"""Progress of a running matrix: bars on a terminal, lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.console import can_redraw, print_plain
from bench.matrix.heartbeat import Heartbeat
from bench.matrix.remaining import RemainingTime


def progress_bars(console: Console) -> Progress:
    """Transient progress bars; hidden if the console cannot redraw lines."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not can_redraw(console),
    )


class MatrixProgress:
    """Callbacks of the executor and the training loop.

    Parameters
    ----------
    console : Console
    cells : int
        Number of cells in all.
    before : int
        Number of cells before the first that is reported here.
    bars : Progress, optional
        Bars shared with other cells that run in parallel; each line then starts with the number of its cell.
    """

    def __init__(self, console: Console, cells: int, before: int = 0, bars: Progress | None = None) -> None:
        self._console = console
        self._cells = cells
        self._number = before
        self._in_parallel = bars is not None
        self._images = 0
        self._started = time.monotonic()
        self._title = ""
        self._remaining = RemainingTime()
        self.heartbeat: Heartbeat | None = None
        self._bars = bars or progress_bars(console)
        self._task = self._bars.add_task("", total=1.0, note="", visible=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def images_loaded(self, count: int) -> None:
        self._images += count
        rate = self._images / max(time.monotonic() - self._started, 1e-9)
        note = f"{self._images:,} images, {rate:,.0f} a second"
        self._bars.update(self._task, description="loading", total=None, note=note, visible=True)

    def cell_started(self, title: str) -> None:
        self._number += 1
        self._title = title
        self._started = time.monotonic()
        self._remaining = RemainingTime()
        self._print(f"{self._position} {title}")
        self._bars.reset(self._task, description=escape(title), total=1.0, note="", visible=True)

    def tokenised(self, captions: int, done: int) -> None:
        self._bars.update(self._task, completed=done / captions, note=f"{done:,} captions tokenised")

    def cell_skipped(self, title: str, reason: str) -> None:
        self._number += 1
        self._print(f"{self._position} {title}: {reason}")

    def cell_postponed(self, title: str) -> None:
        self.note("deferred: another process is training a cell that it needs")
        self._number -= 1
        self._bars.update(self._task, visible=False)

    def cell_done(self, title: str) -> None:
        self.note(f"done in {time.monotonic() - self._started:.0f} s")
        self._bars.update(self._task, visible=False)

    def cell_failed(self, title: str, error: str) -> None:
        self.note(f"FAILED {error}")
        self._bars.update(self._task, visible=False)

    def stage(self, name: str) -> None:
        if self.heartbeat:
            self.heartbeat.stage(name)
        self._bars.update(self._task, note=escape(name))

    def step(self, share: float, pairs_per_second: float, loss: float) -> None:
        if self.heartbeat:
            self.heartbeat.step(share)
        self._remaining.step(share)
        self._bars.update(self._task, completed=share, note=f"{pairs_per_second:,.0f} pairs/s · loss {loss:.3f}")

    def epoch(self, curve: dict[str, Any], epochs: int) -> None:
        done = int(curve["epoch"]) + 1
        left = self._remaining.seconds(done / epochs)
        eta = "" if left is None else f"  ETA {left:.0f} s"
        self.note(f"epoch {done}/{epochs}  loss {curve['loss']:.3f}  {curve['pairs_per_second']:,.0f} pairs/s{eta}")

    def note(self, text: str) -> None:
        self._print(f"{self._position if self._in_parallel else '   '} {text}")

    @property
    def _position(self) -> str:
        return f"[{self._number}/{self._cells}]"

    def _print(self, line: str) -> None:
        print_plain(self._console, line)
