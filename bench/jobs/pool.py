"""Worker processes as the process sees them that gives them cells."""

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

from bench.jobs.share import Share

GONE = "gone"
_PATIENCE_SECONDS = 10.0


class Worker:
    """A process of its own session, which a terminal's Ctrl-C does not reach: it stops when it is told to, or the pipe ends."""

    def __init__(self, number: int, share: Share) -> None:
        self.number = number
        self.ready = False
        self.pipe, theirs = Pipe()
        warnings = [f"-W{option}" for option in sys.warnoptions]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *warnings, "-m", "bench.jobs.worker", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, **_environment(number, share)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()

    def tell(self, message: Any) -> None:
        """Send a message, which the process may no longer be there to hear; None tells it to stop, twice: at once."""
        with suppress(OSError):
            self.pipe.send(message)

    def ended(self) -> str:
        """How the process ended, which has closed its pipe."""
        try:
            code = self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.pipe.close()
        if code >= 0:
            return f"its process ended with exit code {code}"
        hint = ", as Linux does where memory runs out" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"


def heard(workers: Iterable[Worker], seconds: float) -> Iterator[tuple[Worker, tuple[str, Any]]]:
    """What workers say, waiting at most `seconds` for the first of it: its kind and the rest; GONE where the process is."""
    known = list(workers)
    ready = wait([worker.pipe for worker in known], seconds)
    for worker in (worker for worker in known if worker.pipe in ready):
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            message = GONE, None
        yield worker, message


def dismiss(workers: Iterable[Worker]) -> None:
    """Have what runs checkpoint and stop, and wait until it has. KeyboardInterrupt while it waits stops it at once."""
    left = list(workers)
    try:
        _stopped(left)
    except KeyboardInterrupt:
        _stopped(left, time.monotonic() + _PATIENCE_SECONDS)
        raise
    finally:
        for worker in left:
            worker.process.kill()
            worker.ended()


def _stopped(left: list[Worker], deadline: float | None = None) -> None:
    """Tell `left` to stop, and take out of it those that have."""
    for worker in left:
        worker.tell(None)
    while left and (deadline is None or time.monotonic() < deadline):
        for worker, (kind, _) in heard(left, 0.5):
            if kind == GONE:
                left.remove(worker)
                worker.ended()


def _environment(number: int, share: Share) -> dict[str, str]:
    gpu = {"CUDA_VISIBLE_DEVICES": share.gpus[number % len(share.gpus)]} if share.gpus else {}
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": str(share.threads), **gpu}
