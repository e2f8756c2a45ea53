"""Runs the cells of matrices as jobs of Slurm, through submitit."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from submitit import AutoExecutor, Job, JobEnvironment
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError, UncompletedJobError

from bench.cluster.executor import ClusterExecutor
from bench.cluster.options import SlurmOptions
from bench.cluster.progress import ClusterProgress
from bench.errors import UserError
from bench.matrix.expand import Cell, Matrix
from bench.matrix.heartbeat import is_locked
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.matrix.tasks import LOCKED, CellTask, record_lost
from bench.matrix.worker import WorkerConfig, run_cell
from bench.matrix.workspace import WorkspaceSource

_FOLDER = "slurm"
_TIMEOUTS = 20
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class CellJob:
    """What a job does: run one cell."""

    config: WorkerConfig
    source: WorkspaceSource
    cells: tuple[Cell, ...]

    def __call__(self) -> str | UserError:
        """Run the cell; returns its outcome, or the error that bad input raised.

        On submitit's signal of a preemption or of the time limit, the cell writes a checkpoint and stops as after SIGTERM, and
        submitit's own handler then puts the job back in the queue and exits.
        """
        number = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        requeue: Any = signal.getsignal(number)
        received: list[int] = []

        def stop(signum: int, frame: FrameType | None) -> None:
            received.append(signum)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(number, stop)
        try:
            outcome = run_cell(self.config, self.source, self.cells)
        except UserError as error:
            return error
        if received and outcome == LOCKED:
            requeue(number, None)
        return outcome

    def checkpoint(self) -> DelayedSubmission:
        """What the requeued job does: the same, from the cell's checkpoint in the results folder."""
        return DelayedSubmission(self)


class SubmititExecutor(ClusterExecutor):
    """Submits all cells that wait for no other as one job array, and those that build on them as they are done."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        config: WorkerConfig,
        progress: ClusterProgress,
        stop: Callable[[], bool],
        options: SlurmOptions,
    ) -> None:
        super().__init__(matrices, store, config, progress, stop)
        self._slurm = auto_executor(store, options)
        self._collected: list[CellTask] = []

    def _send(self, task: CellTask) -> bool:
        self._collected.append(task)
        return True

    def _ended(self) -> Iterator[tuple[CellTask, str]]:
        yield from self._submit()
        time.sleep(_POLL_SECONDS)
        for job in [job for job in self._running if job.done()]:
            task = self._running.pop(job)
            yield task, self._outcome(job, task)

    def _submit(self) -> Iterator[tuple[CellTask, str]]:
        """Submit the collected cells as an array; yields those that another process holds, a job of an earlier command."""
        collected, self._collected = self._collected, []
        held = [task for task in collected if is_locked(self.store, task.cell.key)]
        free = [task for task in collected if task not in held]
        if free:
            jobs = submit(self._slurm, [CellJob(self.config, task.source, task.cells) for task in free])
            self._running.update(zip(jobs, free, strict=True))
        yield from ((task, LOCKED) for task in held)

    def _outcome(self, job: Job[str | UserError], task: CellTask) -> str:
        """The outcome of an ended job, whose files are removed unless it was lost."""
        try:
            outcome: str | UserError = job.result()
        except UncompletedJobError as error:
            reason = f"job {job.job_id} was lost ({job.state}), its log is in {_FOLDER}/{job.job_id} of the results folder"
            hint = "--retry-failed resumes from the last checkpoint"
            failure = Failure(stage="worker", error=f"{reason}; {hint}", traceback=str(error))
            return record_lost(task.cell, self.store, failure)
        if isinstance(outcome, UserError):
            raise outcome
        shutil.rmtree(job.paths.folder, ignore_errors=True)
        return outcome

    def _cancel(self) -> None:
        """Cancel the jobs: waiting ones leave the queue, running ones write a checkpoint and stop."""
        for job in self._running:
            job.cancel(check=False)


def auto_executor(store: Store, options: SlurmOptions) -> AutoExecutor:
    """Raises UserError for a bad value of --slurm, and where there is no Slurm."""
    folder = store.root.absolute() / _FOLDER / "%j"
    try:
        executor = AutoExecutor(folder, options.cluster, slurm_max_num_timeout=_TIMEOUTS, local_max_num_timeout=_TIMEOUTS)
    except RuntimeError:
        raise UserError(
            "--executor submitit: there is no Slurm here (srun not found); start the command on a node that submits jobs"
        ) from None
    try:
        executor.update_parameters(**options.parameters)
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"--slurm: {' '.join(str(error).split())}") from None
    return executor


def submit(executor: AutoExecutor, jobs: Sequence[CellJob]) -> list[Job[str | UserError]]:
    """Submit jobs as an array. Raises UserError with what sbatch said if it refuses them."""
    try:
        submitted: list[Job[str | UserError]] = executor.submit_array(jobs)
        return submitted
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise UserError(f"--slurm: the jobs were not accepted: {' '.join(str(error).split())}") from None
