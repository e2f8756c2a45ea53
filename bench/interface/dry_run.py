"""The output of --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from bench.console import print_plain

if TYPE_CHECKING:
    import torch

    from bench.config import RunSpec
    from bench.interface.options import RunOptions
    from bench.matrix.expand import Cell, Matrix
    from bench.matrix.store import Store

_TO_TRAIN = "to be trained"


def show_plan(matrices: Sequence[Matrix], options: RunOptions, device: torch.device, console: Console) -> None:
    """Print the state of each cell, and estimates of time, disk space and memory."""
    from bench.jobs.slots import JobSlots
    from bench.matrix.estimate import lacking_memory, training_seconds, weights_bytes
    from bench.matrix.store import Store

    store = Store.open(options.out) if options.out.is_dir() else None
    if store:
        store.require_current()
    untrained = [_to_train(matrix, store, options.retry_failed, console) for matrix in matrices]
    count = sum(map(len, untrained))
    slots = JobSlots() if options.executor != "local" else JobSlots.of(options.jobs, device, count)
    with slots.limit_threads():
        seconds = sum(training_seconds(*each, store, device) for each in zip(matrices, untrained, strict=True))
    cells = sum(len(matrix.cells) for matrix in matrices)
    rounds = -(-count // slots.count)
    spent = seconds * rounds / count if count else 0.0
    disk = sum(weights_bytes(specs) for specs in untrained)
    parallel = f", {slots}" if slots.count > 1 else ""
    what = f"about {_duration(spent)} of training on {device.type}{parallel}, and {_size(disk)} of disk"
    print_plain(console, f"{cells} cells, {count} to be trained: {what}")
    warnings = [
        warning for matrix, specs in zip(matrices, untrained, strict=True) for warning in lacking_memory(matrix, specs, device)
    ]
    for warning in dict.fromkeys(warnings):
        print_plain(console, warning)


def _to_train(matrix: Matrix, store: Store | None, retry_failed: bool, console: Console) -> list[RunSpec]:
    """Print the state of each cell; returns the specs of those to be trained."""
    states = [(cell, _state(cell, store, retry_failed)) for cell in matrix.cells]
    for cell, state in states:
        print_plain(console, f"{cell.key}  {cell.title}: {state}")
    return [cell.spec for cell, state in states if state == _TO_TRAIN]


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
