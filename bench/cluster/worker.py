"""What a worker does: open the data once, then one cell after the other."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import lru_cache

import torch
from filelock import Timeout
from rich.console import Console
from threadpoolctl import threadpool_limits

from bench import plugins
from bench.cluster.place import Order
from bench.config import PluginSpec
from bench.errors import Stopped, UserError
from bench.matrix.device import device_of
from bench.matrix.expand import Cell, Matrix
from bench.matrix.local import LocalExecutor
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.stop import stoppable
from bench.matrix.store import Store
from bench.matrix.workspace import Source, Workspace
from bench.models import pretrained
from bench.quiet import quiet_libraries
from bench.registry import Registry, attacks, defenses, evaluators
from bench.training.determinism import deterministic

HELD = "held"
"""Another process has the cell, or one that it needs next; or this one was told to stop."""

_DATA_SOURCES = 2


def settle(order: Order, source: Source, cells: Sequence[Cell], progress: MatrixProgress | None = None) -> str:
    """Do the last of `cells`, which needs the others: its outcome, or HELD."""
    quiet_libraries()
    pretrained.know(order.weights)
    torch.set_num_threads(order.threads)
    progress = progress or MatrixProgress(Console(quiet=True), 1)
    try:
        with deterministic(order.deterministic), threadpool_limits(order.threads), stoppable() as stop:
            store, workspace = _store(order), _workspace(order.plugins, source)
            _check_identity(cells, workspace)
            runtime = Runtime(
                device_of(order.device),
                progress,
                stop,
                order.checkpoint_seconds,
                order.track,
                order.command,
                grad_checkpointing=order.grad_checkpointing,
                deterministic=order.deterministic,
            )
            executor = LocalExecutor(Matrix(tuple(cells), workspace), store, runtime, progress, order.retry_failed)
            return executor.settle(cells[-1])
    except (Timeout, Stopped):
        return HELD


def _store(order: Order) -> Store:
    if order.request is not None and not (order.store / "requests" / f"{order.request}.json").is_file():
        raise UserError(
            f"--out {order.store}: {platform.node()} does not see what was written there; "
            "it has to be on a file system that all nodes share"
        )
    return Store.open(order.store)


@lru_cache(maxsize=_DATA_SOURCES)
def _workspace(files: tuple[str, ...], source: Source) -> Workspace:
    """The data, opened once in the life of a worker."""
    plugins.load(files)
    return source.open()


def _check_identity(cells: Sequence[Cell], workspace: Workspace) -> None:
    """See that data and plugins here are those that the keys of the cells were made of."""
    for cell in cells:
        if cell.spec.data != workspace.data:
            raise UserError(f"--data {cell.spec.data.name}: {platform.node()} has other data than the node that asks for it")
        _check_plugin(cell.spec.defense, defenses)
        if cell.spec.attack:
            _check_plugin(cell.spec.attack, attacks)
        for evaluation in cell.evaluations:
            _check_plugin(evaluation.evaluator, evaluators)


def _check_plugin(spec: PluginSpec, registry: Registry) -> None:
    if registry[spec.name].identity() != spec.model_dump(include={"name", "version", "source"}, exclude_none=True):
        raise UserError(
            f"{registry.kind} '{spec.name}': {platform.node()} has another version of it than the node that asks for it; "
            "install the same code on all nodes"
        )
