"""Runs a matrix on this machine, one cell after the other."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from filelock import Timeout

from bench import keys
from bench.config import RunSpec
from bench.errors import UserError
from bench.matrix import cell as cells
from bench.matrix import followers
from bench.matrix.evaluation import CellEvalContext, CellModels, evaluate
from bench.matrix.expand import Cell, Matrix
from bench.matrix.heartbeat import Heartbeat
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.schema import Failure
from bench.matrix.stop import at_once
from bench.matrix.store import Store, told
from bench.plugins import place_of
from bench.training.memory import LESS_MEMORY
from bench.training.ranks import Separated

_WAIT_SECONDS = 2.0


def is_done(cell: Cell, store: Store) -> bool:
    """Everything asked of the cell is on record."""
    return store.run_record(cell.key) is not None and all(
        store.eval_record(cell.key, each.evaluator.name, each.key) is not None
        for each in cell.evaluations
        if each.unsupported is None
    )


def settled(cell: Cell, store: Store, retry_failed: bool) -> tuple[str, str] | None:
    """The outcome of a cell that asks for no work, and what is to be said of it; None where there is something to do."""
    if cell.unsupported:
        return "unsupported", ""
    if is_done(cell, store):
        return "cached", "already on record"
    if store.failure(cell.key) and not retry_failed:
        return "failed", "failed before; --retry-failed tries again"
    return None


def unsettled(matrices: Sequence[Matrix], store: Store, retry_failed: bool) -> int:
    """How many cells there is something to do of."""
    return sum(settled(cell, store, retry_failed) is None for matrix in matrices for cell in matrix.cells)


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
        """Finish every cell; counts of done, cached, failed and unsupported cells.

        A cell is left for later while another process holds it, or trains what it needs next. A failed cell does not stop the
        others; bad input does.
        """
        outcomes: Counter[str] = Counter()
        waiting = deque(self.matrix.cells)
        passed_over = 0
        while waiting:
            self._heed_stop()
            cell = waiting.popleft()
            try:
                patience = _WAIT_SECONDS if passed_over > len(waiting) else 0
                outcomes[self.settle(cell, patience)] += 1
                passed_over = 0
            except Timeout:
                waiting.append(cell)
                passed_over += 1
        return outcomes

    def settle(self, cell: Cell, patience: float = 0) -> str:
        """Do what is left of one cell: done, cached, failed or unsupported.

        Raises Timeout where another process holds it, or a cell that it needs next, for longer than `patience` seconds.
        """
        before = settled(cell, self.store, self.retry_failed)
        if before:
            outcome, why = before
            if why:
                self.progress.cell_skipped(cell.title, why)
            return outcome
        with self._held(cell, patience):
            if is_done(cell, self.store):
                return "cached"
            for spec in self._lacking(cell):
                with self.store.lock(keys.run_key(spec)).acquire(timeout=patience):
                    pass
            return self._attempt(cell)

    def _lacking(self, cell: Cell) -> list[RunSpec]:
        """The cells that the next stage of a cell needs and that are not trained."""
        trained = cells.is_trained(self.store, cell.spec)
        wanted = cell.measured_against if trained else cell.builds_on
        return [spec for spec in wanted if not cells.is_trained(self.store, spec)]

    def _attempt(self, cell: Cell) -> str:
        stage = "train"
        with at_once(self.runtime.stop):
            self.matrix.workspace.preload(self.progress.images_loaded)
        self.progress.cell_started(cell.title)
        self.store.clear_failure(cell.key)
        try:
            self._prepare(cell)
            if not cells.is_trained(self.store, cell.spec):
                followers.train(cell, self.matrix.workspace, self.store, self.runtime)
            for evaluation in cell.evaluations:
                if evaluation.unsupported or self.store.eval_record(cell.key, evaluation.evaluator.name, evaluation.key):
                    continue
                stage = f"eval:{evaluation.evaluator.name}"
                self.progress.stage(f"evaluating {evaluation.evaluator.name}")
                if evaluation.clean is not None:
                    self._ensure_trained(evaluation.clean)
                with at_once(self.runtime.stop):
                    record = evaluate(evaluation, self._context(cell.spec, evaluation.clean))
                self.store.write_eval(cell.key, evaluation.evaluator.name, evaluation.key, record)
        except (UserError, Separated):
            raise
        except Timeout:
            self.progress.cell_postponed(cell.title)
            raise
        except Exception as error:
            self.store.write_failure(cell.key, _failure(stage, error))
            self.progress.cell_failed(cell.title, f"{stage}: {_one_line(error)}{place_of(error)}")
            return "failed"
        self.progress.cell_done(cell.title)
        return "done"

    @contextmanager
    def _held(self, cell: Cell, patience: float) -> Iterator[None]:
        """Hold the lock of a cell and say so in its heartbeat. Raises Timeout when another has it for `patience` seconds."""
        before = self.progress.heartbeat
        lock = self.store.lock(cell.key)
        with told(self.store.root / "locks"):
            lock.acquire(timeout=patience)
        try:
            with Heartbeat(self.store.heartbeat(cell.key)) as self.progress.heartbeat:
                cells.tidy(cell.spec, self.store)
                yield
        finally:
            self.progress.heartbeat = before
            lock.release()

    def _heed_stop(self) -> None:
        if self.runtime.stop():
            raise KeyboardInterrupt

    def _context(self, spec: RunSpec, clean: RunSpec | None) -> CellEvalContext:
        return CellEvalContext(spec, clean, self.matrix.workspace, self.models)

    def _prepare(self, cell: Cell) -> None:
        """See that the models are there that the cell builds on."""
        for below in (cell.start, cell.guide, cell.beside):
            if below is not None:
                self._ensure_trained(below)
        if cell.surrogate is not None:
            self._ensure_trained(cell.surrogate)
            with at_once(self.runtime.stop):
                self.matrix.workspace.craft(cell.spec, self.models.surrogate(cell.surrogate))

    def _ensure_trained(self, spec: RunSpec) -> None:
        """Do the training of a cell that another one needs. Raises Timeout while another process does it."""
        if cells.is_trained(self.store, spec):
            return
        cell = self._cells[keys.run_key(spec)]
        if failed := self.store.failure(cell.key):
            raise RuntimeError(f"the cell it builds on failed ({cell.title}: {failed.error})")
        with self._held(cell, patience=0):
            if not cells.is_trained(self.store, spec):
                self._prepare(cell)
                followers.train(cell, self.matrix.workspace, self.store, self.runtime)


def _failure(stage: str, error: Exception) -> Failure:
    return Failure(stage=stage, error=_one_line(error), traceback="".join(traceback.format_exception(error)))


def _one_line(error: Exception) -> str:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{said} (out of memory: {LESS_MEMORY})" if _out_of_memory(error) else said


def _out_of_memory(error: Exception) -> bool:
    """On a CPU PyTorch raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error)
