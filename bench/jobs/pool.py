"""Worker processes, as seen by the process that gives them cells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from bench.cores import LOAD_THREADS, available_cores
from bench.jobs.slots import JobSlots

EXITED = "exited"
_TIMEOUT_SECONDS = 10.0


class Worker:
    """A process in its own session, which Ctrl-C in the terminal does not reach; it stops on request or at end of pipe."""

    def __init__(self, number: int, slots: JobSlots) -> None:
        self.number = number
        self.ready = False
        self.pipe, child_end = Pipe()
        warnings = [f"-W{option}" for option in sys.warnoptions]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *warnings, "-m", "bench.jobs.worker", str(child_end.fileno())],
            pass_fds=(child_end.fileno(),),
            env={**os.environ, **_environment(number, slots)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        child_end.close()

    def send(self, message: Any) -> None:
        """Send a message, unless the process has exited. None requests a graceful stop, a second None an immediate one."""
        with suppress(OSError):
            self.pipe.send(message)

    def reap(self) -> str:
        """Wait for the process, which has closed its pipe; returns how it ended."""
        try:
            code = self.process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.pipe.close()
        if code >= 0:
            return f"its process ended with exit code {code}"
        hint = ", as Linux does when memory runs out" if code == -signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-code).name}{hint}"


def receive(workers: Iterable[Worker], seconds: float) -> Iterator[tuple[Worker, tuple[str, Any]]]:
    """The next message of each worker that has one, as (kind, value), waiting up to `seconds` for the first.

    The kind is EXITED if the process has ended.
    """
    known = list(workers)
    ready = wait([worker.pipe for worker in known], seconds)
    for worker in (worker for worker in known if worker.pipe in ready):
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            message = EXITED, None
        yield worker, message


def shut_down(workers: Iterable[Worker]) -> None:
    """Let the workers write a checkpoint and stop, and wait for them. A KeyboardInterrupt meanwhile stops them immediately."""
    alive = list(workers)
    try:
        _stop(alive)
    except KeyboardInterrupt:
        _stop(alive, time.monotonic() + _TIMEOUT_SECONDS)
        raise
    finally:
        for worker in alive:
            worker.process.kill()
            worker.reap()


def _stop(alive: list[Worker], deadline: float | None = None) -> None:
    """Ask the workers to stop, and remove from `alive` those that have."""
    for worker in alive:
        worker.send(None)
    while alive and (deadline is None or time.monotonic() < deadline):
        for worker, (kind, _) in receive(alive, 0.5):
            if kind == EXITED:
                alive.remove(worker)
                worker.reap()


def _environment(number: int, slots: JobSlots) -> dict[str, str]:
    gpu = {"CUDA_VISIBLE_DEVICES": slots.gpus[number % len(slots.gpus)]} if slots.gpus else {}
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    loading = os.environ.get(LOAD_THREADS) or str(max(1, available_cores() // slots.count))
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": str(slots.threads), LOAD_THREADS: loading, **gpu}
