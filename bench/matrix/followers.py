"""A matrix on several processes: the first decides what is trained and measures it, the others train along."""

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
from bench.training.ranks import Ranks, Separated
from bench.training.trainer import TrainingDiverged


def train(cell: Cell, workspace: Workspace, store: Store, runtime: Runtime) -> None:
    """Train one cell as the first process, with all that follow. Raises Separated where they cannot go on together."""
    if runtime.ranks.count == 1:
        cells.train(cell, workspace, store, runtime)
        return
    runtime.ranks.tell(cell.key)
    with _together(runtime):
        runtime.ranks.from_first(workspace.poison(cell.spec)[1] if cell.spec.attack else None)
        cells.train(cell, workspace, store, runtime)


def follow(matrices: Sequence[Matrix], store: Store, runtime: Runtime) -> None:
    """Train whatever the first process trains, until it has no more. Nothing is written."""
    known = {cell.key: (cell, matrix.workspace) for matrix in matrices for cell in matrix.cells}
    while (key := runtime.ranks.hear(runtime.stop)) is not None:
        if key not in known:
            raise UserError(f"torchrun: process {runtime.ranks.rank} sees other data or another command than process 0")
        cell, workspace = known[key]
        try:
            with _together(runtime):
                plan: PoisonPlan | None = runtime.ranks.from_first(None)
                if plan is not None:
                    workspace.adopt(cell.spec, plan)
                cells.train(cell, workspace, store, runtime)
        except TrainingDiverged:
            continue


@contextmanager
def followed(ranks: Ranks) -> Iterator[None]:
    """Let the others go at the end, however it comes."""
    try:
        yield
    finally:
        if ranks.first:
            ranks.tell(None)


@contextmanager
def _together(runtime: Runtime) -> Iterator[None]:
    """What goes wrong on one process ends all, save that the loss, which is the same on all, is no number any more."""
    try:
        yield
    except (UserError, TrainingDiverged):
        raise
    except Exception as error:
        if runtime.stop():  # the others were faster
            raise KeyboardInterrupt from error
        raise Separated(
            "training failed on this or another process; the same command goes on from the last checkpoint"
        ) from error
