"""Graceful shutdown: SIGINT and SIGTERM stop a run after its next checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from bench.errors import Stopped

_Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag that the training loop polls; the second one interrupts immediately.

    Yields
    ------
    callable
        True once a signal has arrived. The caller then writes a checkpoint and raises KeyboardInterrupt.

    Raises
    ------
    Stopped
        If a KeyboardInterrupt leaves the block after a signal.
    KeyboardInterrupt
        If the block was interrupted without a signal to this process: another rank received it.
    """
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        with _handlers(lambda previous: handle):
            yield lambda: bool(received)
    except KeyboardInterrupt:
        if not received:
            raise
        raise Stopped(received[0]) from None


@contextlib.contextmanager
def interruptible(stop: Callable[[], bool], single_process: bool = True) -> Iterator[None]:
    """Let a signal interrupt the block immediately, for work that is redone from its start anyway.

    Raises KeyboardInterrupt wherever the signal arrives, and on entry if `stop()` is already true. A no-op unless
    `single_process`: several ranks have to agree on when to stop.
    """

    def make(previous: Any) -> _Handler:
        def handle(signum: int, frame: FrameType | None) -> None:
            if callable(previous):
                previous(signum, frame)
            raise KeyboardInterrupt

        return handle

    if not single_process:
        yield
        return
    with _handlers(make):
        if stop():
            raise KeyboardInterrupt
        yield


@contextlib.contextmanager
def _handlers(make: Callable[[Any], _Handler]) -> Iterator[None]:
    """Install `make(previous handler)` for SIGINT and SIGTERM; a no-op outside the main thread, which alone can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in previous.items():
            signal.signal(number, make(handler))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
