"""Runs the cells of matrices on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from bench.cluster.executor import ClusterExecutor
from bench.cluster.options import RayOptions
from bench.cluster.progress import ClusterProgress
from bench.errors import UserError
from bench.matrix.expand import Matrix
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.matrix.tasks import LOCKED, CellTask
from bench.matrix.worker import WorkerConfig, run_cell

_RETRIES = 3
_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def connected(options: RayOptions) -> Iterator[None]:
    """Connect to the cluster; a local one is shut down on exit.

    Raises UserError if there is no cluster, or none of its nodes has the CPUs and GPUs that a cell takes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {"include_dashboard": False} if options.address == "local" else {}
    _check_listens(options.address)
    try:
        ray.init(options.address, logging_level=logging.ERROR, log_to_driver=False, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--ray-address {options.address}: no Ray cluster found ({_one_line(error)}); "
            "start one with `ray start --head`, or use --ray-address local"
        ) from None
    try:
        _check_fits(options)
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raise UserError if nothing listens at HOST:PORT, which Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray-address {address}: no answer ({_one_line(error)}); "
            "give the address that `ray start --head` printed, or use --ray-address local"
        ) from None


def _check_fits(options: RayOptions) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= options.cpus and node.get("GPU", 0) >= options.gpus for node in nodes):
        raise UserError(
            f"no node of the Ray cluster has {options.cpus} CPUs and {options.gpus:g} GPUs: "
            "lower --cpus-per-cell or --gpus-per-cell, or add a node"
        )


class RayExecutor(ClusterExecutor):
    """Runs matrices within `connected`. The cell of a lost worker resumes on another from its checkpoint."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        config: WorkerConfig,
        progress: ClusterProgress,
        stop: Callable[[], bool],
        options: RayOptions,
    ) -> None:
        super().__init__(matrices, store, config, progress, stop)
        self._function: Any = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=_RETRIES)(run_cell)

    def _send(self, task: CellTask) -> bool:
        function = self._function.options(name=task.cell.title)
        self._running[function.remote(self.config, task.source, task.cells)] = task
        return True

    def _ended(self) -> Iterator[tuple[CellTask, str]]:
        if not self._running:
            time.sleep(_POLL_SECONDS)
            return
        references, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=_POLL_SECONDS)
        for reference in references:
            task = self._running.pop(reference)
            yield task, self._outcome(reference, task)

    def _outcome(self, reference: Any, task: CellTask) -> str:
        try:
            return str(ray.get(reference))
        except TaskCancelledError:  # its node was told to stop
            return LOCKED
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except RayError as error:
            failure = Failure(stage="worker", error=f"{type(error).__name__}: {_one_line(error)}", traceback=str(error))
            self.store.write_failure(task.cell.key, failure)
            return "failed"

    def _cancel(self) -> None:
        """Let running cells write a checkpoint and stop, and wait for them."""
        for reference in self._running:
            ray.cancel(reference)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
