"""Gives the cells of matrices to a Ray cluster and hears of them."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from bench import keys
from bench.cluster.place import Order, Place
from bench.cluster.progress import ClusterProgress
from bench.cluster.worker import HELD, settle
from bench.errors import UserError
from bench.matrix.errands import Errand, errands
from bench.matrix.expand import Matrix
from bench.matrix.heartbeat import last_beat
from bench.matrix.local import settled
from bench.matrix.schema import Failure
from bench.matrix.store import Store

_RETRIES = 3
_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.5
_HELD_SECONDS = 2.0


@contextlib.contextmanager
def connected(place: Place) -> Iterator[None]:
    """A connection to the cluster; one of this machine alone ends with it.

    Raises UserError when there is no cluster, or no node of it has what a cell takes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"include_dashboard": False} if place.address == "local" else {}
    _check_listens(place.address)
    try:
        ray.init(place.address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--ray-address {place.address}: no Ray cluster is found there ({_one_line(error)}); "
            "start one with `ray start --head`, or use --ray-address local"
        ) from None
    try:
        _check_fits(place)
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Ray itself tries a dead HOST:PORT for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray-address {address}: nothing answers there ({_one_line(error)}); "
            "give the address that `ray start --head` showed, or use --ray-address local"
        ) from None


def _check_fits(place: Place) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= place.cpus and node.get("GPU", 0) >= place.gpus for node in nodes):
        raise UserError(
            f"no node of the Ray cluster has {place.cpus} CPUs and {place.gpus:g} GPUs: "
            "lower --cpus-per-cell or --gpus-per-cell, or add a node"
        )


class RayExecutor:
    """Runs matrices within `connected`. The cell of a lost worker goes on elsewhere from its checkpoint."""

    def __init__(
        self,
        matrices: Sequence[Matrix],
        store: Store,
        place: Place,
        order: Order,
        progress: ClusterProgress,
        stop: Callable[[], bool],
    ) -> None:
        self.store = store
        self.order = order
        self.progress = progress
        self.stop = stop
        self._task: Any = ray.remote(num_cpus=place.cpus, num_gpus=place.gpus, max_retries=_RETRIES)(settle)
        self._waiting = [errand for matrix in matrices for errand in errands(matrix)]
        self._running: dict[Any, Errand] = {}

    def run(self) -> Counter[str]:
        """Finish every cell; counts of done, cached, failed and unsupported cells.

        A cell is sent when those that its training builds on are settled, and again while another process holds it. A failed
        cell does not stop the others; bad input does.
        """
        outcomes = self._skip()
        try:
            while self._waiting or self._running:
                if self.stop():
                    raise KeyboardInterrupt
                self._send()
                for errand, outcome in self._finished():
                    outcomes[outcome] += 1
                    failure = self.store.failure(errand.cell.key) if outcome == "failed" else None
                    why = f"FAILED {failure.stage}: {failure.error}" if failure else ""
                    self.progress.cell_ended(errand.cell, outcome, why)
                self._show()
        finally:
            self._cancel()
        return outcomes

    def _skip(self) -> Counter[str]:
        """Take out the cells that ask for no work."""
        outcomes: Counter[str] = Counter()
        for errand in list(self._waiting):
            before = settled(errand.cell, self.store, self.order.retry_failed)
            if before:
                self._waiting.remove(errand)
                outcomes[before[0]] += 1
                self.progress.cell_ended(errand.cell, *before)
        return outcomes

    def _send(self) -> None:
        unsettled = {errand.cell.key for errand in (*self._waiting, *self._running.values())}
        for errand in list(self._waiting):
            bases = {keys.run_key(spec) for spec in errand.cell.builds_on}
            if errand.not_before <= time.monotonic() and not bases & unsettled:
                self._waiting.remove(errand)
                task = self._task.options(name=errand.cell.title)
                self._running[task.remote(self.order, errand.source, errand.cells)] = errand

    def _finished(self) -> Iterator[tuple[Errand, str]]:
        """The cells that ended since, waiting a little for the first; those that are held wait for another try."""
        if not self._running:
            time.sleep(_POLL_SECONDS)
            return
        references, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=_POLL_SECONDS)
        for reference in references:
            errand = self._running.pop(reference)
            outcome = self._outcome(reference, errand)
            if outcome == HELD:
                self._waiting.append(replace(errand, not_before=time.monotonic() + _HELD_SECONDS))
            else:
                yield errand, outcome

    def _outcome(self, reference: Any, errand: Errand) -> str:
        try:
            return str(ray.get(reference))
        except TaskCancelledError:  # its node was told to stop
            return HELD
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except RayError as error:
            said = f"{type(error).__name__}: {_one_line(error)}"
            lost = Failure(stage="worker", error=said, traceback=str(error))
            self.store.write_failure(errand.cell.key, lost)
            return "failed"

    def _show(self) -> None:
        sent = [errand.cell for errand in self._running.values()]
        beats = ((cell, last_beat(self.store, cell.key)) for cell in sent)
        self.progress.show([(cell, beat) for cell, beat in beats if beat])

    def _cancel(self) -> None:
        """Have what runs checkpoint and stop, and wait until it has."""
        for reference in self._running:
            ray.cancel(reference)
        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
