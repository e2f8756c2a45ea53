"""A process that does one cell after the other for the one that started it: `python -m bench.jobs.worker PIPE`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from rich.console import Console

from bench.cluster.place import Order
from bench.cluster.worker import settle
from bench.errors import UserError
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress
from bench.matrix.workspace import Source

READY, PROGRESS, OUTCOME, REFUSED, BROKEN = "ready", "progress", "outcome", "refused", "broken"
"""Kinds of what is told: it has started; something for a MatrixProgress; the outcome of a cell; bad input; a traceback."""

_TELL_SECONDS = 0.25
_ORPHAN_SECONDS = 60.0


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a batch system tells the parent too, which then tells us
    pipe, tasks = Connection(int(sys.argv[1])), SimpleQueue[Any]()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    _tell(pipe, READY, None)
    relay = Relay(lambda *told: _tell(pipe, PROGRESS, told))
    with suppress(KeyboardInterrupt):
        while (task := tasks.get()) is not None:
            _tell(pipe, *_settled(task, relay))
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _listen(pipe: Connection, tasks: SimpleQueue[Any]) -> None:
    """Pass tasks on; a stop, or the parent's death, as SIGINT. An orphan that does not stop soon is ended."""
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


def _settled(task: tuple[Order, Source, Sequence[Cell]], relay: Relay) -> tuple[str, str]:
    order, source, cells = task
    try:
        return OUTCOME, settle(order, source, cells, relay)
    except UserError as error:
        return REFUSED, str(error)
    except MemoryError:
        return REFUSED, "out of memory while data and models are opened; a smaller --jobs needs less"
    except Exception:
        return BROKEN, traceback.format_exc()


def _tell(pipe: Connection, kind: str, value: Any) -> None:
    with suppress(OSError):  # the parent is gone, and work is being stopped
        pipe.send((kind, value))


class Relay(MatrixProgress):
    """Tells the parent what it hears; of steps some a second."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(Console(quiet=True), 1)
        self._tell = tell
        self._told = 0.0

    def images_loaded(self, count: int) -> None:
        self._tell("images_loaded", count)

    def cell_started(self, title: str) -> None:
        self._tell("cell_started", title)

    def tokenised(self, captions: int, done: int) -> None:
        self._tell("tokenised", captions, done)

    def cell_skipped(self, title: str, why: str) -> None:
        self._tell("cell_skipped", title, why)

    def cell_postponed(self, title: str) -> None:
        self._tell("cell_postponed", title)

    def cell_done(self, title: str) -> None:
        self._tell("cell_done", title)

    def cell_failed(self, title: str, error: str) -> None:
        self._tell("cell_failed", title, error)

    def stage(self, name: str) -> None:
        super().stage(name)
        self._tell("stage", name)

    def step(self, share: float, pairs_per_second: float, loss: float) -> None:
        super().step(share, pairs_per_second, loss)
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self._tell("step", share, pairs_per_second, loss)

    def epoch(self, curve: dict[str, Any], epochs: int) -> None:
        self._tell("epoch", curve, epochs)

    def note(self, text: str) -> None:
        self._tell("note", text)


if __name__ == "__main__":
    main()
