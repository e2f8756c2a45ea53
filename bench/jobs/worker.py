"""A worker process, which runs one cell after the other for its parent: `python -m bench.jobs.worker PIPE`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from rich.console import Console

from bench.errors import UserError
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress
from bench.matrix.worker import WorkerConfig, run_cell
from bench.matrix.workspace import WorkspaceSource

READY, PROGRESS, OUTCOME, USER_ERROR, CRASHED = "ready", "progress", "outcome", "user error", "crashed"
"""Kinds of messages to the parent; their values: None, a call to MatrixProgress, an outcome, a sentence, a traceback."""

_STEP_SECONDS = 0.25
_ORPHAN_SECONDS = 60.0


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a batch system signals the parent too, which stops us
    pipe, tasks = Connection(int(sys.argv[1])), SimpleQueue[Any]()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    _send(pipe, READY, None)
    relay = ProgressRelay(lambda *call: _send(pipe, PROGRESS, call))
    with suppress(KeyboardInterrupt):
        while (task := tasks.get()) is not None:
            _send(pipe, *_run(task, relay))
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _listen(pipe: Connection, tasks: SimpleQueue[Any]) -> None:
    """Queue the parent's tasks, and turn its request to stop, or its death, into SIGINT; an orphan that does not stop exits."""
    orphan = False
    while not orphan:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            task, orphan = None, True
        tasks.put(task)
        if task is None:
            os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)


def _run(task: tuple[WorkerConfig, WorkspaceSource, Sequence[Cell]], relay: ProgressRelay) -> tuple[str, str]:
    config, source, cells = task
    try:
        return OUTCOME, run_cell(config, source, cells, relay)
    except UserError as error:
        return USER_ERROR, str(error)
    except MemoryError:
        return USER_ERROR, "out of memory while opening data and models; use a smaller --jobs"
    except Exception:
        return CRASHED, traceback.format_exc()


def _send(pipe: Connection, kind: str, value: Any) -> None:
    with suppress(OSError):  # the parent is gone, and this process about to stop
        pipe.send((kind, value))


class ProgressRelay(MatrixProgress):
    """Forwards its calls to the parent, of `step` a few per second; the heartbeat is written here."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__(Console(quiet=True), 1)
        self._send = send
        self._sent = 0.0
        for name in (
            "images_loaded", "tokenised", "cell_started", "cell_skipped", "cell_postponed", "cell_done", "cell_failed", "epoch",
            "note",
        ):  # fmt: skip
            setattr(self, name, partial(send, name))

    def stage(self, name: str) -> None:
        super().stage(name)
        self._send("stage", name)

    def step(self, share: float, pairs_per_second: float, loss: float) -> None:
        super().step(share, pairs_per_second, loss)
        if time.monotonic() - self._sent > _STEP_SECONDS:
            self._sent = time.monotonic()
            self._send("step", share, pairs_per_second, loss)


if __name__ == "__main__":
    main()
