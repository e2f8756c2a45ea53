"""A queue of cells for worker processes, in the order of their dependencies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from filelock import Timeout

from bench import keys
from bench.matrix.expand import Cell, Matrix, with_dependencies
from bench.matrix.local import existing_outcome
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace, WorkspaceSource

LOCKED = "locked"
"""The outcome of a cell that another process holds, or whose next dependency it trains; it is tried again."""

_RETRY_SECONDS = 2.0


@dataclass(eq=False)
class CellTask:
    """A cell to send to a worker.

    Attributes
    ----------
    number : int
        Position in the matrices, from 1.
    source : WorkspaceSource
        What the worker opens the data with.
    cells : tuple of Cell
        The cell's dependencies, then the cell.
    workspace : Workspace
        The opened data, for the sending process alone.
    waits_for : frozenset of str
        Keys of cells that must be finished first.
    not_before : float
        Monotonic time before which the task is not sent.
    """

    number: int
    source: WorkspaceSource
    cells: tuple[Cell, ...]
    workspace: Workspace
    waits_for: frozenset[str]
    not_before: float = 0.0

    @property
    def cell(self) -> Cell:
        return self.cells[-1]


class TaskQueue:
    """Pending and running tasks of matrices, and the loop that sends them to workers."""

    def __init__(self, matrices: Sequence[Matrix], store: Store, retry_failed: bool) -> None:
        self._pending = list(_tasks(matrices))
        self._running: list[CellTask] = []
        self._store = store
        self._retry_failed = retry_failed

    def skip_finished(self) -> Iterator[tuple[CellTask, str, str]]:
        """Remove the tasks with nothing to do; yields each with its outcome and a message."""
        for task in list(self._pending):
            if found := existing_outcome(task.cell, self._store, self._retry_failed):
                self._pending.remove(task)
                yield task, *found

    def run(
        self,
        send: Callable[[CellTask], bool],
        finished: Callable[[], Iterable[tuple[CellTask, str]]],
        stop: Callable[[], bool],
    ) -> Counter[str]:
        """Send every task once its training dependencies are finished, and again after LOCKED.

        Parameters
        ----------
        send : callable
            Starts a task; returns False if no worker is free.
        finished : callable
            The tasks that ended since its last call, with their outcomes; waits briefly for the first.
        stop : callable
            Polled between calls.

        Returns
        -------
        Counter of str
            Numbers of cells by outcome.

        Raises
        ------
        KeyboardInterrupt
            Once `stop()` is true.
        """
        outcomes: Counter[str] = Counter()
        while self._pending or self._running:
            if stop():
                raise KeyboardInterrupt
            for task in self._ready():
                if not send(task):
                    break
                self._pending.remove(task)
                self._running.append(task)
            for task, outcome in finished():
                self._running.remove(task)
                if outcome == LOCKED:
                    self._postpone(task)
                else:
                    outcomes[outcome] += 1
        return outcomes

    def _ready(self) -> list[CellTask]:
        unfinished = {task.cell.key for task in (*self._pending, *self._running)}
        now = time.monotonic()
        return [task for task in self._pending if task.not_before <= now and not task.waits_for & unfinished]

    def _postpone(self, task: CellTask) -> None:
        """Try a cell again after a pause, when all its dependencies in this queue are finished."""
        task.not_before = time.monotonic() + _RETRY_SECONDS
        task.waits_for = frozenset(keys.run_key(spec) for spec in task.cell.dependencies)
        self._pending.append(task)


def record_lost(cell: Cell, store: Store, failure: Failure) -> str:
    """Record the cell of a worker that ended without saying how as failed, unless another process has taken it over.

    Returns the outcome: failed, cached or LOCKED.
    """
    try:
        with store.lock(cell.key).acquire(timeout=0):
            if existing_outcome(cell, store, retry_failed=True):
                return "cached"
            store.write_failure(cell.key, failure)
    except Timeout:
        return LOCKED
    return "failed"


def _tasks(matrices: Sequence[Matrix]) -> Iterator[CellTask]:
    number = 0
    for matrix in matrices:
        source = matrix.workspace.source.absolute()
        known = {cell.key: cell for cell in matrix.cells}
        for cell in matrix.cells:
            number += 1
            waits_for = frozenset(keys.run_key(spec) for spec in cell.training_dependencies)
            yield CellTask(number, source, tuple(with_dependencies(cell, known)), matrix.workspace, waits_for)
