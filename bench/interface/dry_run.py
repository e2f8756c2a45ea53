"""What `bench run` would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.console import say

if TYPE_CHECKING:
    import torch

    from bench.matrix.expand import Cell, Matrix
    from bench.matrix.store import Store

_TO_TRAIN = "to be trained"


def show_plan(matrices: Sequence[Matrix], out: Path, device: torch.device, retry_failed: bool, console: Console) -> None:
    """Each cell with what is to be done of it, and what that takes."""
    from bench.matrix.estimate import lacking_memory, training_seconds, weights_bytes
    from bench.matrix.store import Store

    store = Store.open(out) if out.is_dir() else None
    if store:
        store.require_current()
    seconds, disk, count = 0.0, 0, 0
    lacks: list[str] = []
    for matrix in matrices:
        todo = []
        for cell in matrix.cells:
            state = _state(cell, store, retry_failed)
            if state == _TO_TRAIN:
                todo.append(cell.spec)
            say(console, f"{cell.key}  {cell.title}: {state}")
        seconds += training_seconds(matrix, todo, store, device)
        disk += weights_bytes(todo)
        count += len(todo)
        lacks += lacking_memory(matrix, todo, device)
    cells = sum(len(matrix.cells) for matrix in matrices)
    what = f"about {_duration(seconds)} of training on {device.type} and {_size(disk)} of disk"
    say(console, f"{cells} cells, {count} to be trained: {what}")
    for lack in dict.fromkeys(lacks):
        say(console, lack)


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
