"""Runs the cells of matrices in worker processes on this machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from rich.console import Console

from bench.errors import UserError
from bench.jobs.memory import CellMemory
from bench.jobs.pool import Worker, receive, shut_down
from bench.jobs.progress import JobsProgress
from bench.jobs.slots import JobSlots
from bench.jobs.worker import CRASHED, OUTCOME, PROGRESS, READY, USER_ERROR
from bench.matrix.expand import Matrix
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.matrix.tasks import CellTask, TaskQueue, record_lost
from bench.matrix.worker import WorkerConfig
from bench.shutdown import graceful_shutdown

_POLL_SECONDS = 0.5
_STAGE = "worker"


def run_in_parallel(
    matrices: Sequence[Matrix], store: Store, config: WorkerConfig, slots: JobSlots, device: torch.device, console: Console
) -> Counter[str]:
    """Run every cell in worker processes; returns numbers of cells by outcome."""
    progress = JobsProgress(console, sum(len(matrix.cells) for matrix in matrices))
    progress.print(str(slots))
    with graceful_shutdown() as stop, progress:
        return JobsExecutor(matrices, store, config, slots, device, progress, stop).run()


class JobsExecutor:
    """Runs matrices, `slots.count` cells at a time. The cell of a worker that dies has failed; the others continue."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        config: WorkerConfig,
        slots: JobSlots,
        device: torch.device,
        progress: JobsProgress,
        stop: Callable[[], bool],
    ) -> None:
        self.store = store
        self.config = config
        self.slots = slots
        self.progress = progress
        self.stop = stop
        self._memory = CellMemory(device)
        self._queue = TaskQueue(matrices, store, config.retry_failed)
        self._running: dict[Worker, CellTask] = {}
        self._idle: list[Worker] = []
        self._memory_is_short = False

    def run(self) -> Counter[str]:
        """Finish every cell; returns numbers of done, cached, failed and unsupported cells.

        A failed cell does not stop the others. Raises UserError for bad input.
        """
        outcomes: Counter[str] = Counter()
        for task, outcome, message in self._queue.skip_finished():
            outcomes[outcome] += 1
            if message:
                self.progress.of(task.number).cell_skipped(task.cell.title, message)
        try:
            return outcomes + self._queue.run(self._send, self._finished, self.stop)
        finally:
            shut_down([*self._running, *self._idle])

    def _send(self, task: CellTask) -> bool:
        if len(self._running) >= self.slots.count or not self._fits(task):
            return False
        worker = self._idle.pop() if self._idle else self._new_worker()
        self._running[worker] = task
        worker.send((self.config, task.source, task.cells))
        return True

    def _fits(self, task: CellTask) -> bool:
        """Whether there is memory for one more cell; with no other cell running it is tried anyway."""
        self._idle = [worker for worker in self._idle if worker.process.poll() is None]
        if not self._running:
            return True
        processes = [(self._idle[-1].process.pid if self._idle else None, self._bytes(task))]
        processes += [(worker.process.pid, self._bytes(each)) for worker, each in self._running.items()]
        fits = self._memory.fits(processes)
        if not fits and not self._memory_is_short:
            self._memory_is_short = True
            self.progress.print(f"memory is enough for {len(self._running)} at a time; the others wait")
        return fits

    def _bytes(self, task: CellTask) -> float:
        return self._memory.required(task.cell.spec, task.workspace)

    def _new_worker(self) -> Worker:
        taken = {worker.number for worker in self._running}
        return Worker(next(number for number in range(self.slots.count) if number not in taken), self.slots)

    def _finished(self) -> Iterator[tuple[CellTask, str]]:
        """Handle the workers' messages; yields the cells that ended."""
        if not self._running:
            time.sleep(_POLL_SECONDS)
        for worker, (kind, value) in list(receive(self._running, _POLL_SECONDS)):
            task = self._running[worker]
            if kind == READY:
                worker.ready = True
            elif kind == PROGRESS:
                name, *arguments = value
                getattr(self.progress.of(task.number), name)(*arguments)
            elif kind == USER_ERROR:
                raise UserError(value)
            elif kind == CRASHED:
                raise RuntimeError(f"a worker process failed:\n{value}")
            else:
                del self._running[worker]
                if kind == OUTCOME:
                    self._idle.append(worker)
                yield task, value if kind == OUTCOME else self._worker_died(task, worker)

    def _worker_died(self, task: CellTask, worker: Worker) -> str:
        """Record the cell of a dead worker as failed, unless another process has taken it over; returns the outcome."""
        reason = worker.reap()
        if not worker.ready:
            raise UserError(f"--jobs: a worker process could not be started ({reason}); use --jobs 1")
        error = f"{reason}; --retry-failed resumes from its last checkpoint"
        outcome = record_lost(task.cell, self.store, Failure(stage=_STAGE, error=error, traceback=error))
        if outcome == "failed":
            self.progress.worker_died(task.number, task.cell, f"{_STAGE}: {error}")
        return outcome
