"""Images from files and arrays, and faults in them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.api.data import Findings, Images
from bench.cores import load_threads
from bench.data.decoding import SKIP, decode, square_pixels
from bench.errors import UserError

MEMORY_BUDGET = 4 * 2**30

OnError = Literal["error", "skip"]

_CHUNK = 4096
_PATIENCE = 0.02
"""Seconds that an item of `read_map` may wait, beside its own work, before the next `_GROUP` go to threads."""
_GROUP = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


class CachedImages(ABC):
    """Images decoded on first use, and kept in memory if all of them fit in `budget` bytes.

    Indexing is done by NumPy, for the reason given in `bench.data.poisoned`.
    """

    def __init__(self, count: int, side: int, budget: int = MEMORY_BUDGET) -> None:
        self._count = count
        self._side = side
        self._kept: NDArray[np.uint8] | None = None
        if count * 3 * side * side <= budget:
            self._kept = np.empty((count, 3, side, side), dtype=np.uint8)
        self._decoded = np.zeros(count, dtype=np.bool_)

    @abstractmethod
    def _image(self, index: int) -> NDArray[np.uint8]:
        """One image: uint8 (3, side, side). Raises UserError naming it if it cannot be decoded."""

    def __len__(self) -> int:
        return self._count

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images at `indices`: uint8 (n, 3, side, side), a copy.

        Raises UserError naming the file if one is missing, unreadable or too large.
        """
        indices = np.ascontiguousarray(indices, dtype=np.int64)
        if self._kept is None:
            return torch.from_numpy(self.decode(indices))
        wanted = np.unique(indices[~self._decoded[indices]])
        if len(wanted):
            self._kept[wanted] = self.decode(wanted)
            self._decoded[wanted] = True
        return torch.from_numpy(self._kept[indices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return 3, self._side, self._side

    def files(self) -> Sequence[str | Path]:
        """The files that images are read from; none where the data set's fingerprint tells every change."""
        return ()

    def forget(self) -> None:
        """Keep no image, from now on."""
        self._kept = None

    def read_from(self, pixels: NDArray[np.uint8]) -> None:
        """Take all images from here, uint8 (n, 3, side, side), from now on."""
        self._kept = np.asarray(pixels)
        self._decoded[:] = True

    def decode(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `indices`, as `load` without anything kept: uint8 (n, 3, side, side)."""
        images = np.empty((len(indices), *self.shape), dtype=np.uint8)

        def fill(row: int) -> None:
            images[row] = self._image(int(indices[row]))

        thread_map(fill, range(len(indices)))
        return images


class ImageFiles(CachedImages):
    """Images from files; `remedy` ends the error message for a damaged one. See `CachedImages`."""

    def __init__(
        self, paths: Sequence[str | Path], side: int, budget: int = MEMORY_BUDGET, remedy: str = f"replace it, {SKIP}"
    ) -> None:
        super().__init__(len(paths), side, budget)
        self._paths = paths
        self._remedy = remedy

    def files(self) -> Sequence[str | Path]:
        return self._paths

    def _image(self, index: int) -> NDArray[np.uint8]:
        return decode(self._paths[index], self._side, remedy=self._remedy)


class ArrayImages(CachedImages):
    """Images from an array, uint8 (n, height, width) or (n, height, width, 3); see `CachedImages`."""

    def __init__(self, pixels: NDArray[np.uint8], side: int, budget: int = MEMORY_BUDGET) -> None:
        super().__init__(len(pixels), side, budget)
        self._pixels = pixels

    def _image(self, index: int) -> NDArray[np.uint8]:
        return square_pixels(Image.fromarray(self._pixels[index]), self._side)


class Faults:
    """Handles faults of single images: they are raised, or, with on_error="skip", counted by kind in `facts`.

    With `findings` they are collected there instead, and never raised.
    """

    def __init__(self, on_error: OnError, kinds: Sequence[str], findings: Findings | None = None) -> None:
        self.skip = on_error == "skip"
        self._findings = findings
        self.facts: dict[str, str | int] = {f"skipped_{kind}": 0 for kind in kinds}

    def note(self, kind: str, problem: str, count: int = 1) -> None:
        """Count `count` images as left out, or raise UserError with `problem`, a sentence that ends in a remedy."""
        if self._findings is not None:
            self._findings.note(kind, problem, count)
        elif not self.skip:
            raise UserError(f"{problem}, {SKIP}")
        self.facts[f"skipped_{kind}"] = int(self.facts.get(f"skipped_{kind}", 0)) + count


class Selection:
    """The images at `positions` of other images, in that order, without a copy."""

    def __init__(self, images: Images, positions: Sequence[int] | NDArray[np.int64]) -> None:
        self._images = images
        self._positions = np.asarray(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._positions)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images at `indices` of the selection: uint8 (n, 3, side, side)."""
        return self._images.load(self._positions[indices])


def readable(paths: Sequence[str | Path], cached: Path | None = None) -> list[bool]:
    """Whether each image can be decoded, found by decoding it.

    `cached` is a file that stores the answer until one of the images changes; it must belong to exactly these images.
    """
    answer = load_array(cached, np.bool_, len(paths))
    if cached is None or answer is None or changed_since(cached, paths):
        answer = np.array(thread_map(_can_be_decoded, paths), dtype=np.bool_)
        save_array(cached, answer)
    return [bool(each) for each in answer]


def loadable(images: Images, cached: Path | None = None) -> NDArray[np.bool_]:
    """Whether each image can be loaded, found by loading it: bool (n,).

    `cached` is a file that stores the answer; its name must change whenever one of the images does.
    """
    if (stored := load_array(cached, np.bool_, len(images))) is not None:
        return stored
    answer = np.array(thread_map(lambda row: _load_error(images, row) is None, range(len(images))), dtype=np.bool_)
    save_array(cached, answer)
    return answer


def load_array(file: Path | None, kind: type[np.generic], count: int | None = None) -> NDArray[Any] | None:
    """The array that `save_array` wrote; None if there is none of this dtype and, if given, of length `count`."""
    if file is not None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            values: NDArray[Any] = np.load(file, allow_pickle=False)
            if values.dtype == kind and values.ndim == 1 and count in (None, len(values)):
                return values
    return None


def save_array(file: Path | None, values: NDArray[Any]) -> None:
    """Write an array (n,) to a file atomically; an unwritable cache is ignored."""
    if file is not None:
        draft = file.with_name(f"{os.getpid()}-{file.name}")
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(draft, values)
            os.replace(draft, file)


def load_errors(images: Images) -> Iterator[str]:
    """Yield the error message of each image that cannot be loaded."""
    for start in range(0, len(images), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(images)))
        yield from filter(None, thread_map(lambda row: _load_error(images, row), rows))


def _load_error(images: Images, row: int) -> str | None:
    try:
        images.load(np.array([row]))
    except UserError as error:
        return str(error)
    return None


def changed_since(cached: Path, paths: Sequence[str | Path]) -> bool:
    """Whether a file has changed since `cached` was written, or is not there."""
    try:
        written = cached.stat().st_mtime_ns
        return any(os.stat(path).st_ctime_ns >= written for path in paths)
    except (OSError, ValueError):
        return True


def _can_be_decoded(path: str | Path) -> bool:
    try:
        decode(path, 32)
    except UserError:
        return False
    return True


def file_stat(path: str | bytes | Path, folder: int | None = None) -> tuple[int, int]:
    """Size in bytes, -1 if there is no such file, and change time in ns. `path` may be relative to the descriptor `folder`."""
    try:
        status = os.stat(path, dir_fd=folder)
    except (OSError, ValueError):
        return -1, 0
    return (status.st_size, status.st_ctime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)


def file_size(path: str | Path) -> int:
    """Size in bytes; -1 if there is no such file."""
    return file_stat(path)[0]


def thread_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply `function` to each item in a pool of threads; results are in the order of the items."""
    results: list[Result] = []
    with ThreadPoolExecutor(load_threads()) as pool:
        for start in range(0, len(items), _CHUNK):
            chunk: Iterable[Item] = items[start : start + _CHUNK]
            results.extend(pool.map(function, chunk))
    return results


def read_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """As `thread_map`, for items that each take a few hundred short reads.

    Threads help where storage keeps reads waiting. Files in the page cache are read one after another, because threads would
    only wait for one another's turn of the interpreter, at four times the cost.
    """
    results: list[Result] = []
    while len(results) < len(items):
        began = time.perf_counter() - time.thread_time()
        results.append(function(items[len(results)]))
        if time.perf_counter() - time.thread_time() - began > _PATIENCE:
            results.extend(thread_map(function, items[len(results) : len(results) + _GROUP]))
    return results
