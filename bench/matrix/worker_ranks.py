"""A matrix on several ranks: rank 0 schedules, trains and evaluates the cells, the worker ranks train with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.api import PoisonPlan
from bench.errors import UserError
from bench.matrix import cell as cells
from bench.matrix.expand import Cell, Matrix
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace
from bench.training.ranks import RankFailure, Ranks
from bench.training.trainer import TrainingDiverged


def train_on_all_ranks(cell: Cell, workspace: Workspace, store: Store, runtime: Runtime) -> None:
    """Train one cell, called on rank 0. Raises RankFailure if a rank fails."""
    if runtime.ranks.count == 1:
        cells.train(cell, workspace, store, runtime)
        return
    runtime.ranks.send(cell.key)
    with _failing_together(runtime):
        runtime.ranks.broadcast(workspace.poison(cell.spec)[1] if cell.spec.attack else None)
        cells.train(cell, workspace, store, runtime)


def train_announced_cells(matrices: Sequence[Matrix], store: Store, runtime: Runtime) -> None:
    """Train the cells that rank 0 announces, until it has none left; called on worker ranks. Writes nothing."""
    known = {cell.key: (cell, matrix.workspace) for matrix in matrices for cell in matrix.cells}
    while (key := runtime.ranks.receive(runtime.stop)) is not None:
        if key not in known:
            raise UserError(f"torchrun: rank {runtime.ranks.rank} has other data or another command than rank 0")
        cell, workspace = known[key]
        try:
            with _failing_together(runtime):
                plan: PoisonPlan | None = runtime.ranks.broadcast(None)
                if plan is not None:
                    workspace.set_plan(cell.spec, plan)
                cells.train(cell, workspace, store, runtime)
        except TrainingDiverged:
            continue


@contextmanager
def releasing_workers(ranks: Ranks) -> Iterator[None]:
    """Release the worker ranks on exit, also after an error."""
    try:
        yield
    finally:
        if ranks.is_main:
            ranks.send(None)


@contextmanager
def _failing_together(runtime: Runtime) -> Iterator[None]:
    """Turn an error on this rank into one that ends all; a divergence, which every rank sees, fails the cell alone."""
    try:
        yield
    except (UserError, TrainingDiverged):
        raise
    except Exception as error:
        if runtime.stop():  # the other ranks stopped first
            raise KeyboardInterrupt from error
        raise RankFailure(
            "training failed on this or another rank; run the same command to resume from the last checkpoint"
        ) from error
