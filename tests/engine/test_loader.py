import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from bench.data.loader import batches, prefetch


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 2), (5, 8), (8, 8), (9, 8), (64, 7), (100, 1)])
def test_batches_partition_all_but_the_remainder(count: int, size: int) -> None:
    indices = np.random.default_rng(1).choice(1000, count, replace=False)
    made = batches(indices, size, np.random.default_rng(0))
    together = np.concatenate([*made, np.array([], dtype=np.int64)])
    assert len(set(together.tolist())) == len(together)
    assert set(together.tolist()) <= set(indices.tolist())
    if count == 0:
        assert made == []
    elif count < size:
        assert [len(batch) for batch in made] == [count]
    else:
        assert [len(batch) for batch in made] == [size] * (count // size)


def test_batches_follow_the_generator() -> None:
    indices = np.arange(50)
    first, again, other = (np.concatenate(batches(indices, 8, np.random.default_rng(seed))).tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert first != sorted(first)
    assert indices.tolist() == list(range(50))


def test_every_pair_is_left_out_now_and_then() -> None:
    seen = np.zeros(10, dtype=int)
    for seed in range(200):
        seen[np.concatenate(batches(np.arange(10), 4, np.random.default_rng(seed)))] += 1
    assert seen.sum() == 200 * 8
    assert seen.min() > 120


def _loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "bench-loader"]


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_prefetch_keeps_the_order(count: int, depth: int) -> None:
    assert list(prefetch(range(count), depth)) == list(range(count))
    assert not _loaders()


def test_prefetch_works_ahead_but_not_farther_than_depth() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    stream = prefetch(items(), depth=3)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.15)
    assert len(made) == 5  # one taken, three ready, one waiting for room
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError("row 3"), KeyboardInterrupt(), SystemExit(3)])
def test_prefetch_raises_what_the_items_raise(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise error

    got: list[int] = []
    with pytest.raises(type(error)) as caught:
        got.extend(prefetch(items()))
    assert caught.value is error
    assert got == [0, 1, 2]
    assert not _loaders()


def test_prefetch_ends_its_thread_when_abandoned() -> None:
    stream = prefetch(iter(int, 1), depth=2)
    next(stream)
    assert len(_loaders()) == 1
    del stream
    assert not _loaders()

    def consume() -> None:
        for _ in prefetch(iter(int, 1)):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        consume()
    assert not _loaders()
