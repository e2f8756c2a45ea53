"""Gives the cells of matrices to worker processes and hears of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from filelock import Timeout
from rich.console import Console

from bench import keys
from bench.cluster.place import Order
from bench.cluster.worker import HELD
from bench.errors import UserError
from bench.jobs.pool import Worker, dismiss, heard
from bench.jobs.progress import JobsProgress
from bench.jobs.room import Room
from bench.jobs.share import Share
from bench.jobs.worker import BROKEN, OUTCOME, PROGRESS, READY, REFUSED
from bench.matrix.errands import Errand, errands
from bench.matrix.expand import Cell, Matrix
from bench.matrix.local import settled
from bench.matrix.progress import MatrixProgress
from bench.matrix.schema import Failure
from bench.matrix.stop import stoppable
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace

_POLL_SECONDS = 0.5
_HELD_SECONDS = 2.0
_STAGE = "worker"


@dataclass
class Task:
    """An errand with its number, counted from 1; `waits_for` are keys of cells to be settled first."""

    number: int
    errand: Errand
    workspace: Workspace
    waits_for: frozenset[str]
    shown: MatrixProgress

    @property
    def cell(self) -> Cell:
        return self.errand.cell


def side_by_side(
    matrices: Sequence[Matrix], store: Store, order: Order, share: Share, device: torch.device, console: Console
) -> Counter[str]:
    """Settle every cell in processes of their own; counts of outcomes."""
    progress = JobsProgress(console, sum(len(matrix.cells) for matrix in matrices))
    progress.say(str(share))
    with stoppable() as stop, progress:
        return JobsExecutor(matrices, store, order, share, device, progress, stop).run()


class JobsExecutor:
    """Runs matrices, `share.count` cells at a time. The cell of a worker that dies has failed; the others go on."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        order: Order,
        share: Share,
        device: torch.device,
        progress: JobsProgress,
        stop: Callable[[], bool],
    ) -> None:
        self.store = store
        self.order = order
        self.share = share
        self.progress = progress
        self.stop = stop
        self._room = Room(device)
        self._waiting = [*self._tasks(matrices)]
        self._running: dict[Worker, Task] = {}
        self._idle: list[Worker] = []
        self._crowded = False

    def run(self) -> Counter[str]:
        """Finish every cell; counts of done, cached, failed and unsupported cells.

        A cell is sent when those that its training builds on are settled, and again when another process held it or trained
        what it needs. A failed cell does not stop the others; bad input does.
        """
        outcomes = self._skip()
        try:
            while self._waiting or self._running:
                if self.stop():
                    raise KeyboardInterrupt
                self._send()
                outcomes.update(self._outcomes())
        finally:
            dismiss([*self._running, *self._idle])
        return outcomes

    def _tasks(self, matrices: Sequence[Matrix]) -> Iterator[Task]:
        number = 0
        for matrix in matrices:
            for errand in errands(matrix):
                number += 1
                before = frozenset(keys.run_key(spec) for spec in errand.cell.builds_on)
                yield Task(number, errand, matrix.workspace, before, self.progress.of(number))

    def _skip(self) -> Counter[str]:
        """Take out the cells that ask for no work."""
        outcomes: Counter[str] = Counter()
        for task in list(self._waiting):
            if before := settled(task.cell, self.store, self.order.retry_failed):
                self._waiting.remove(task)
                outcome, why = before
                outcomes[outcome] += 1
                if why:
                    task.shown.cell_skipped(task.cell.title, why)
        return outcomes

    def _send(self) -> None:
        if len(self._running) >= self.share.count:
            return
        unsettled = {each.cell.key for each in (*self._waiting, *self._running.values())}
        for task in list(self._waiting):
            if task.errand.not_before > time.monotonic() or task.waits_for & unsettled:
                continue
            if len(self._running) >= self.share.count or not self._has_room(task):
                return
            self._waiting.remove(task)
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._running[worker] = task
            worker.tell((self.order, task.errand.source, task.errand.cells))

    def _has_room(self, task: Task) -> bool:
        """Whether memory is enough for a cell beside those that run; alone it is tried anyway."""
        self._idle = [worker for worker in self._idle if worker.process.poll() is None]
        if not self._running:
            return True
        processes: list[tuple[int | None, float]] = [(self._idle[-1].process.pid if self._idle else None, self._needed(task))]
        processes += [(worker.process.pid, self._needed(each)) for worker, each in self._running.items()]
        has_room = self._room.holds(processes)
        if not has_room and not self._crowded:
            self._crowded = True
            self.progress.say(f"memory is enough for {len(self._running)} at a time; the others wait")
        return has_room

    def _needed(self, task: Task) -> float:
        return self._room.needed(task.cell.spec, task.workspace)

    def _new_worker(self) -> Worker:
        taken = {worker.number for worker in self._running}
        return Worker(next(number for number in range(self.share.count) if number not in taken), self.share)

    def _outcomes(self) -> Iterator[str]:
        """Of the cells that ended since, waiting a little for the first."""
        if not self._running:
            time.sleep(_POLL_SECONDS)
        for worker, (kind, value) in list(heard(self._running, _POLL_SECONDS)):
            task = self._running[worker]
            if kind == READY:
                worker.ready = True
                continue
            if kind == PROGRESS:
                name, *told = value
                getattr(task.shown, name)(*told)
                continue
            if kind == REFUSED:
                raise UserError(value)
            if kind == BROKEN:
                raise RuntimeError(f"a worker process failed:\n{value}")
            del self._running[worker]
            if kind == OUTCOME:
                self._idle.append(worker)
            outcome = value if kind == OUTCOME else self._lost(task, worker)
            if outcome == HELD:
                self._postpone(task)
            else:
                yield outcome

    def _postpone(self, task: Task) -> None:
        """Send a cell again when all that it needs is settled here, and not at once, for it may be another command's."""
        task.errand = replace(task.errand, not_before=time.monotonic() + _HELD_SECONDS)
        task.waits_for = frozenset(keys.run_key(spec) for spec in task.cell.needs)
        self._waiting.append(task)

    def _lost(self, task: Task, worker: Worker) -> str:
        """Put the cell of a worker that died on record as failed, unless another process has taken it over."""
        how = worker.ended()
        if not worker.ready:
            raise UserError(f"--jobs: a process for another cell could not be started ({how}); --jobs 1 does without")
        error = f"{how}; --retry-failed goes on from its last checkpoint"
        try:
            with self.store.lock(task.cell.key).acquire(timeout=0):
                if settled(task.cell, self.store, retry_failed=True):
                    return "cached"
                self.store.write_failure(task.cell.key, Failure(stage=_STAGE, error=error, traceback=error))
        except Timeout:
            return HELD
        self.progress.lost(task.number, task.cell, f"{_STAGE}: {error}")
        return "failed"
