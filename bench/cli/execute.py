"""Runs matrices, or shows what would run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import keys

if TYPE_CHECKING:
    import torch

    from bench.cluster.place import Order, Place
    from bench.matrix.expand import Cell, Matrix
    from bench.matrix.store import Store
    from bench.training.ranks import Ranks


def run(requests: Sequence[dict[str, Any]], store: Store, console: Console, finish: Callable[[], Counter[str]]) -> int:
    """Let `finish` settle every cell, and write the report; the exit code."""
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    for request in requests:
        store.write_request(keys.digest(request), request)
    outcomes = finish()
    with store.lock("report"):
        paths = write_report(store)
    print_tables(store, console)
    console.print(f"Report: {paths['index.html']}", markup=False, highlight=False, soft_wrap=True)
    if outcomes["failed"]:
        cells = "1 cell" if outcomes["failed"] == 1 else f"{outcomes['failed']} cells"
        console.print(f"{cells} failed; the report says why", highlight=False)
    return 1 if outcomes["failed"] else 0


def locally(
    matrices: Sequence[Matrix],
    store: Store,
    device: torch.device,
    retry_failed: bool,
    checkpoint_seconds: float,
    ranks: Ranks,
    track: str | None,
    console: Console,
) -> Counter[str]:
    """Settle every cell in this process, or as the first of several that train together; counts of outcomes."""
    from bench.matrix.followers import followed
    from bench.matrix.local import LocalExecutor
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.stop import stoppable

    outcomes: Counter[str] = Counter()
    with MatrixProgress(console, _cells(matrices)) as progress, stoppable() as stop, followed(ranks):
        runtime = Runtime(device, progress, stop, checkpoint_seconds, track, ranks=ranks)
        for matrix in matrices:
            console.print(_data_line(matrix), markup=False, highlight=False, soft_wrap=True)
            outcomes += LocalExecutor(matrix, store, runtime, progress, retry_failed).run()
    return outcomes


def along(
    matrices: Sequence[Matrix], store: Store, device: torch.device, checkpoint_seconds: float, ranks: Ranks, console: Console
) -> int:
    """Train what the first process of several trains; the exit code."""
    from bench.matrix.followers import follow
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.stop import stoppable

    with stoppable() as stop:
        progress = MatrixProgress(console, _cells(matrices))
        follow(matrices, store, Runtime(device, progress, stop, checkpoint_seconds, ranks=ranks))
    return 0


def on_cluster(matrices: Sequence[Matrix], store: Store, place: Place, order: Order, console: Console) -> Counter[str]:
    """Settle every cell on a Ray cluster; counts of outcomes."""
    from bench.cluster.driver import RayExecutor, connected
    from bench.cluster.progress import ClusterProgress
    from bench.matrix.stop import stoppable

    for matrix in matrices:
        console.print(_data_line(matrix), markup=False, highlight=False, soft_wrap=True)
    with connected(place), stoppable() as stop, ClusterProgress(console, _cells(matrices)) as progress:
        return RayExecutor(matrices, store, place, order, progress, stop).run()


def _cells(matrices: Sequence[Matrix]) -> int:
    return sum(len(matrix.cells) for matrix in matrices)


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
    from bench.matrix.estimate import lacking_memory, training_seconds, weights_bytes

    seconds, disk, count = 0.0, 0, 0
    lacks: list[str] = []
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
        lacks += lacking_memory(todo, device)
    console.print(
        f"{_cells(matrices)} cells, {count} to be trained: "
        f"about {_duration(seconds)} of training on {device.type} and {_size(disk)} of disk",
        highlight=False,
        soft_wrap=True,
    )
    for lack in dict.fromkeys(lacks):
        console.print(lack, markup=False, highlight=False, soft_wrap=True)


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
