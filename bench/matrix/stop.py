"""Signals as a wish to stop."""

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
def stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop after the step and its checkpoint; a second one stops at once.

    Raises Stopped in either case, and KeyboardInterrupt where another process of several was asked.
    """
    asked: list[int] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)
        if len(asked) > 1:
            raise KeyboardInterrupt

    try:
        with _handled(lambda before: ask):
            yield lambda: bool(asked)
    except KeyboardInterrupt:
        if not asked:
            raise
        raise Stopped(asked[0]) from None


@contextlib.contextmanager
def at_once(stop: Callable[[], bool], alone: bool = True) -> Iterator[None]:
    """Within work that is redone from its start the first signal, or one before it, raises KeyboardInterrupt wherever it comes.

    Not where others do the same work along, who have to agree on when to stop.
    """

    def raising(before: Any) -> _Handler:
        def ask(signum: int, frame: FrameType | None) -> None:
            if callable(before):
                before(signum, frame)
            raise KeyboardInterrupt

        return ask

    if not alone:
        yield
        return
    with _handled(raising):
        if stop():
            raise KeyboardInterrupt
        yield


@contextlib.contextmanager
def _handled(make: Callable[[Any], _Handler]) -> Iterator[None]:
    """Let `make` give each signal a handler in place of the one that it is told; only the main thread can have any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            signal.signal(number, make(handler))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
