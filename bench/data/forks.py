"""Work on many files by several processes, for code that a lock of the interpreter keeps on one core."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_WORTH = 8
"""Fewer files are not worth a process."""


def ahead(paths: Sequence[Path], function: Callable[[Path], object]) -> None:
    """Call `function`, which caches its result on disk, for each path in processes side by side.

    The caller calls it again for each path. So whatever fails here, a process included, fails there or is made up for. Does
    nothing where a process cannot be forked safely, on one core and for few paths.
    """
    count = min(len(os.sched_getaffinity(0)), len(paths) // _WORTH) if sys.platform == "linux" else 1
    if count < 2:
        return
    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=_each, args=(paths[first::count], function), daemon=True) for first in range(count)]
    try:
        with contextlib.suppress(OSError):
            for worker in workers:
                worker.start()
        for worker in filter(_started, workers):
            worker.join()
    finally:
        for worker in filter(_started, workers):
            worker.kill()


def _started(worker: BaseProcess) -> bool:
    return worker.pid is not None


def _each(paths: Sequence[Path], function: Callable[[Path], object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for path in paths:
        with contextlib.suppress(Exception):
            function(path)
