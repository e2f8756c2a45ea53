"""What a worker process does: open the data once, then run one cell after the other."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from rich.console import Console
from threadpoolctl import threadpool_limits

from bench import plugins
from bench.config import PluginSpec
from bench.errors import Stopped, UserError
from bench.matrix.device import device_of
from bench.matrix.expand import Cell, Matrix
from bench.matrix.local import LocalExecutor
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.matrix.tasks import LOCKED
from bench.matrix.workspace import Workspace, WorkspaceSource
from bench.models import pretrained
from bench.quiet import quiet_libraries
from bench.registry import Registry, attacks, defenses, evaluators
from bench.shutdown import graceful_shutdown
from bench.training.determinism import deterministic

_OPEN_WORKSPACES = 2


@dataclass(frozen=True)
class WorkerConfig:
    """How workers run cells, the same for all cells of a command.

    `request` is the key of a request in the store, by which a worker on another machine checks that it sees the same folder;
    None if all workers are on this machine. `weights` are the files of given weights by their digests.
    """

    store: Path
    request: str | None
    plugins: tuple[str, ...]
    device: str
    threads: int
    retry_failed: bool
    checkpoint_seconds: float
    command: tuple[str, ...]
    track: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    grad_checkpointing: bool = False
    deterministic: bool = False


def run_cell(
    config: WorkerConfig, source: WorkspaceSource, cells: Sequence[Cell], progress: MatrixProgress | None = None
) -> str:
    """Run the last of `cells`, which start with its dependencies; returns its outcome.

    The outcome is LOCKED also after a signal to stop: the cell then resumes from its checkpoint.
    """
    quiet_libraries()
    pretrained.add_files(config.weights)
    torch.set_num_threads(config.threads)
    progress = progress or MatrixProgress(Console(quiet=True), 1)
    try:
        with deterministic(config.deterministic), threadpool_limits(config.threads), graceful_shutdown() as stop:
            store, workspace = _store(config), _workspace(config.plugins, source)
            _check_identity(cells, workspace)
            runtime = Runtime(
                device_of(config.device),
                progress,
                stop,
                config.checkpoint_seconds,
                config.track,
                config.command,
                grad_checkpointing=config.grad_checkpointing,
                deterministic=config.deterministic,
            )
            executor = LocalExecutor(Matrix(tuple(cells), workspace), store, runtime, progress, config.retry_failed)
            return executor.run_cell(cells[-1])
    except (Timeout, Stopped):
        return LOCKED


def _store(config: WorkerConfig) -> Store:
    if config.request is not None and not (config.store / "requests" / f"{config.request}.json").is_file():
        raise UserError(
            f"--out {config.store}: {platform.node()} does not see the files written there; "
            "use a folder on a file system that all nodes share"
        )
    return Store.open(config.store)


@lru_cache(maxsize=_OPEN_WORKSPACES)
def _workspace(files: tuple[str, ...], source: WorkspaceSource) -> Workspace:
    plugins.load(files)
    return source.open()


def _check_identity(cells: Sequence[Cell], workspace: Workspace) -> None:
    """Raise UserError unless data and plugins here are those that the cells' keys were computed from."""
    for cell in cells:
        if cell.spec.data != workspace.data:
            raise UserError(f"--data {cell.spec.data.name}: {platform.node()} has other data than the submitting node")
        _check_plugin(cell.spec.defense, defenses)
        if cell.spec.attack:
            _check_plugin(cell.spec.attack, attacks)
        for evaluation in cell.evaluations:
            _check_plugin(evaluation.evaluator, evaluators)


def _check_plugin(spec: PluginSpec, registry: Registry[Any]) -> None:
    if registry[spec.name].identity() != spec.model_dump(include={"name", "version", "source"}, exclude_none=True):
        raise UserError(
            f"{registry.kind} '{spec.name}': {platform.node()} has another version than the submitting node; "
            "install the same code on all nodes"
        )
