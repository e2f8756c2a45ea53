"""Runs a matrix in this process, one cell after the other."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from filelock import Timeout

from bench import keys
from bench.config import RunSpec
from bench.disk import disk_errors
from bench.errors import UserError
from bench.matrix import cell as cells
from bench.matrix import worker_ranks
from bench.matrix.evaluation import CellEvalContext, CellModels, evaluate
from bench.matrix.expand import Cell, Matrix
from bench.matrix.heartbeat import Heartbeat
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.plugins import plugin_location
from bench.shutdown import interruptible
from bench.training.memory import MEMORY_HINT
from bench.training.ranks import RankFailure

_LOCK_SECONDS = 2.0


def is_done(cell: Cell, store: Store) -> bool:
    """Whether the store has the cell's record and those of all its evaluations."""
    return store.run_record(cell.key) is not None and all(
        store.eval_record(cell.key, each.evaluator.name, each.key) is not None
        for each in cell.evaluations
        if each.unsupported is None
    )


def existing_outcome(cell: Cell, store: Store, retry_failed: bool) -> tuple[str, str] | None:
    """The outcome of a cell with nothing left to do, and a message (or ""); None if it has to be run."""
    if cell.unsupported:
        return "unsupported", ""
    if is_done(cell, store):
        return "cached", "already on record"
    if store.failure(cell.key) and not retry_failed:
        return "failed", "failed before; --retry-failed tries again"
    return None


def count_pending(matrices: Sequence[Matrix], store: Store, retry_failed: bool) -> int:
    """The number of cells that have to be run."""
    return sum(existing_outcome(cell, store, retry_failed) is None for matrix in matrices for cell in matrix.cells)


class LocalExecutor:
    def __init__(self, matrix: Matrix, store: Store, runtime: Runtime, progress: MatrixProgress, retry_failed: bool) -> None:
        self.matrix = matrix
        self.store = store
        self.runtime = runtime
        self.progress = progress
        self.retry_failed = retry_failed
        self._cells = {cell.key: cell for cell in matrix.cells}
        self.models = CellModels(matrix.workspace, store, runtime.device)

    def run(self) -> Counter[str]:
        """Finish every cell; returns numbers of done, cached, failed and unsupported cells.

        A cell that another process holds, or whose next dependency it trains, is deferred. A failed cell does not stop the
        others. Raises UserError for bad input.
        """
        outcomes: Counter[str] = Counter()
        pending = deque(self.matrix.cells)
        deferred = 0
        while pending:
            if self.runtime.stop():
                raise KeyboardInterrupt
            cell = pending.popleft()
            try:
                timeout = _LOCK_SECONDS if deferred > len(pending) else 0
                outcomes[self.run_cell(cell, timeout)] += 1
                deferred = 0
            except Timeout:
                pending.append(cell)
                deferred += 1
        return outcomes

    def run_cell(self, cell: Cell, timeout: float = 0) -> str:
        """Train and evaluate what is missing of one cell; returns done, cached, failed or unsupported.

        Raises Timeout if another process holds its lock, or that of a dependency needed next, for over `timeout` seconds.
        """
        if found := existing_outcome(cell, self.store, self.retry_failed):
            outcome, message = found
            if message:
                self.progress.cell_skipped(cell.title, message)
            return outcome
        with self._locked(cell, timeout):
            if is_done(cell, self.store):
                return "cached"
            for spec in self._untrained_dependencies(cell):
                with self.store.lock(keys.run_key(spec)).acquire(timeout=timeout):
                    pass
            return self._run(cell)

    def _untrained_dependencies(self, cell: Cell) -> list[RunSpec]:
        """The untrained cells that the next stage of a cell, training or evaluation, needs."""
        trained = cells.is_trained(self.store, cell.spec)
        wanted = cell.evaluation_dependencies if trained else cell.training_dependencies
        return [spec for spec in wanted if not cells.is_trained(self.store, spec)]

    def _run(self, cell: Cell) -> str:
        stage = "train"
        with interruptible(self.runtime.stop):
            self.matrix.workspace.preload(self.progress.images_loaded)
        self.progress.cell_started(cell.title)
        self.store.clear_failure(cell.key)
        try:
            self._train_dependencies(cell)
            if not cells.is_trained(self.store, cell.spec):
                worker_ranks.train_on_all_ranks(cell, self.matrix.workspace, self.store, self.runtime)
            for evaluation in cell.evaluations:
                if evaluation.unsupported or self.store.eval_record(cell.key, evaluation.evaluator.name, evaluation.key):
                    continue
                stage = f"eval:{evaluation.evaluator.name}"
                self.progress.stage(f"evaluating {evaluation.evaluator.name}")
                if evaluation.clean is not None:
                    self._ensure_trained(evaluation.clean)
                with interruptible(self.runtime.stop):
                    measured = evaluate(evaluation, self._context(cell.spec, evaluation.clean))
                self.store.write_eval(cell.key, evaluation.evaluator.name, evaluation.key, *measured)
        except (UserError, RankFailure):
            raise
        except Timeout:
            self.progress.cell_postponed(cell.title)
            raise
        except Exception as error:
            self.store.write_failure(cell.key, _failure(stage, error))
            self.progress.cell_failed(cell.title, f"{stage}: {_one_line(error)}{plugin_location(error)}")
            return "failed"
        self.progress.cell_done(cell.title)
        return "done"

    @contextmanager
    def _locked(self, cell: Cell, timeout: float) -> Iterator[None]:
        """Hold the lock of a cell and write its heartbeat. Raises Timeout if another process holds it for `timeout` seconds."""
        outer = self.progress.heartbeat
        lock = self.store.lock(cell.key)
        with disk_errors(self.store.root / "locks"):
            lock.acquire(timeout=timeout)
        try:
            with Heartbeat(self.store.heartbeat(cell.key)) as self.progress.heartbeat:
                cells.remove_leftovers(cell.spec, self.store)
                yield
        finally:
            self.progress.heartbeat = outer
            lock.release()

    def _context(self, spec: RunSpec, clean: RunSpec | None) -> CellEvalContext:
        return CellEvalContext(spec, clean, self.matrix.workspace, self.models)

    def _train_dependencies(self, cell: Cell) -> None:
        for spec in (cell.start, cell.guide, cell.control_of):
            if spec is not None:
                self._ensure_trained(spec)
        if cell.surrogate is not None:
            self._ensure_trained(cell.surrogate)
            with interruptible(self.runtime.stop):
                self.matrix.workspace.craft(cell.spec, self.models.surrogate(cell.surrogate))

    def _ensure_trained(self, spec: RunSpec) -> None:
        """Train a dependency if need be. Raises Timeout while another process trains it, RuntimeError if it failed."""
        if cells.is_trained(self.store, spec):
            return
        cell = self._cells[keys.run_key(spec)]
        if failed := self.store.failure(cell.key):
            raise RuntimeError(f"the cell it depends on failed ({cell.title}: {failed.error})")
        with self._locked(cell, timeout=0):
            if not cells.is_trained(self.store, spec):
                self._train_dependencies(cell)
                worker_ranks.train_on_all_ranks(cell, self.matrix.workspace, self.store, self.runtime)


def _failure(stage: str, error: Exception) -> Failure:
    return Failure(stage=stage, error=_one_line(error), traceback="".join(traceback.format_exception(error)))


def _one_line(error: Exception) -> str:
    line = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{line} (out of memory: {MEMORY_HINT})" if _out_of_memory(error) else line


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; on a CPU PyTorch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error)
