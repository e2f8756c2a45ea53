"""Batches in a reproducible order, and prefetching in a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def batches(indices: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffle `indices` into full batches.

    Parameters
    ----------
    indices : int64 (n,)
        Pairs.
    batch_size : int
        Size of a batch.
    rng : numpy.random.Generator
        Determines the order.

    Returns
    -------
    list of int64 (batch_size,)
        The last, incomplete batch is dropped, unless it is the only one.
    """
    order = rng.permutation(indices)
    full = len(order) // batch_size
    if not full:
        return [order] if len(order) else []
    return np.split(order[: full * batch_size], full)


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield `items`, computed up to `depth` ahead by a background thread; exceptions raised there are raised here."""
    ready: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: tuple[str, object]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=work, daemon=True, name="bench-loader")
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
