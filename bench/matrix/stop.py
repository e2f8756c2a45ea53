"""Signals as a wish to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from bench.errors import Stopped


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

    before: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt:
        if not asked:
            raise
        raise Stopped(asked[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
