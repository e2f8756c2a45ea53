"""Runs matrices, or shows what would run."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import keys
from bench.errors import Stopped

if TYPE_CHECKING:
    import torch

    from bench.matrix.expand import Cell, Matrix
    from bench.matrix.store import Store


def run(
    matrices: Sequence[Matrix],
    requests: Sequence[dict[str, Any]],
    store: Store,
    device: torch.device,
    retry_failed: bool,
    checkpoint_seconds: float,
    console: Console,
    track: str | None = None,
) -> int:
    """Finish every cell and write the report; the exit code."""
    from bench.matrix.cell import Runtime
    from bench.matrix.local import LocalExecutor
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.tracking import require
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    if track:
        require(track)
    for request in requests:
        store.write_request(keys.digest(request), request)
    outcomes: Counter[str] = Counter()
    with MatrixProgress(console, sum(len(matrix.cells) for matrix in matrices)) as progress, _stoppable() as stop:
        for matrix in matrices:
            console.print(_data_line(matrix), markup=False, highlight=False, soft_wrap=True)
            runtime = Runtime(device, progress, stop, checkpoint_seconds, track)
            outcomes += LocalExecutor(matrix, store, runtime, progress, retry_failed).run()
    paths = write_report(store)
    print_tables(store, console)
    console.print(f"Report: {paths['index.html']}", markup=False, highlight=False, soft_wrap=True)
    if outcomes["failed"]:
        cells = "1 cell" if outcomes["failed"] == 1 else f"{outcomes['failed']} cells"
        console.print(f"{cells} failed; the report says why", highlight=False)
    return 1 if outcomes["failed"] else 0


def _data_line(matrix: Matrix) -> str:
    bundle = matrix.workspace.bundle
    skipped = [
        f"{name.replace('_', ' ')} {count:,}" for name, count in bundle.facts.items() if name.startswith("skipped") and count
    ]
    return f"{matrix.workspace.data.name}: " + ", ".join([f"{len(bundle.train):,} training pairs", *skipped])


def show_plan(
    matrices: Sequence[Matrix], store: Store | None, device: torch.device, retry_failed: bool, console: Console
) -> None:
    """Each cell with what is to be done of it, and what that takes."""
    from bench.matrix.estimate import training_seconds, weights_bytes

    seconds, disk, count = 0.0, 0, 0
    for matrix in matrices:
        todo = []
        for cell in matrix.cells:
            state = _state(cell, store, retry_failed)
            if state == _TO_TRAIN:
                todo.append(cell.spec)
            console.print(f"{cell.key}  {cell.title}: {state}", markup=False, highlight=False, soft_wrap=True)
        seconds += training_seconds(matrix, todo, store, device)
        disk += weights_bytes(todo)
        count += len(todo)
    console.print(
        f"{sum(len(matrix.cells) for matrix in matrices)} cells, {count} to be trained: "
        f"about {_duration(seconds)} of training on {device.type} and {_size(disk)} of disk",
        highlight=False,
        soft_wrap=True,
    )


_TO_TRAIN = "to be trained"


def _state(cell: Cell, store: Store | None, retry_failed: bool) -> str:
    from bench.matrix.cell import is_trained
    from bench.matrix.local import is_done

    if cell.unsupported:
        return f"unsupported: {cell.unsupported}"
    if store and is_done(cell, store):
        return "on record"
    if store and store.failure(cell.key) and not retry_failed:
        return "failed before; --retry-failed tries again"
    return "trained, to be evaluated" if store and is_trained(store, cell.spec) else _TO_TRAIN


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop after the step and its checkpoint; a second one stops at once.

    Raises Stopped in either case.
    """
    asked: list[int] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)
        if len(asked) > 1:
            raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt:
        raise Stopped(asked[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
