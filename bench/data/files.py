"""Images by position, from files or arrays, and what is wrong with them."""

from __future__ import annotations

import contextlib
import os
import stat
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
from bench.data.decoding import SKIP, decode, square_pixels
from bench.errors import UserError

MEMORY_BUDGET = 4 * 2**30

OnError = Literal["error", "skip"]

_THREADS = min(8, os.cpu_count() or 1)
_CHUNK = 4096

Item = TypeVar("Item")
Result = TypeVar("Result")


class KeptImages(ABC):
    """Images made one by one, each when it is first loaded.

    They are kept in memory when all of them fit `budget` bytes, and made anew each time otherwise. Indexing is numpy's, as
    in `bench.data.poisoned`.
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
        """One image, uint8 (3, side, side). Raises UserError naming it when it cannot be had."""

    def __len__(self) -> int:
        return self._count

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (n, 3, side, side) of the given positions, the caller's to change.

        Raises UserError naming the file when one is missing, unreadable or too large.
        """
        indices = np.ascontiguousarray(indices, dtype=np.int64)
        if self._kept is None:
            return torch.from_numpy(self._decode(indices))
        wanted = np.unique(indices[~self._decoded[indices]])
        if len(wanted):
            self._kept[wanted] = self._decode(wanted)
            self._decoded[wanted] = True
        return torch.from_numpy(self._kept[indices])

    def forget(self) -> None:
        """Keep no image, from now on."""
        self._kept = None

    def _decode(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), 3, self._side, self._side), dtype=np.uint8)

        def fill(row: int) -> None:
            images[row] = self._image(int(indices[row]))

        in_threads(fill, range(len(indices)))
        return images


class ImageFiles(KeptImages):
    """Images read from files; `remedy` ends the error that a damaged one raises. See `KeptImages`."""

    def __init__(
        self, paths: Sequence[str | Path], side: int, budget: int = MEMORY_BUDGET, remedy: str = f"replace it, {SKIP}"
    ) -> None:
        super().__init__(len(paths), side, budget)
        self._paths = paths
        self._remedy = remedy

    def _image(self, index: int) -> NDArray[np.uint8]:
        return decode(self._paths[index], self._side, remedy=self._remedy)


class ArrayImages(KeptImages):
    """Images of one array, uint8 (n, height, width) or (n, height, width, 3); see `KeptImages`."""

    def __init__(self, pixels: NDArray[np.uint8], side: int, budget: int = MEMORY_BUDGET) -> None:
        super().__init__(len(pixels), side, budget)
        self._pixels = pixels

    def _image(self, index: int) -> NDArray[np.uint8]:
        return square_pixels(Image.fromarray(self._pixels[index]), self._side)


class Faults:
    """What is wrong with single images: an error, or under on_error=skip a count by kind in `facts`.

    With `findings` they are collected there, and never raised.
    """

    def __init__(self, on_error: OnError, kinds: Sequence[str], findings: Findings | None = None) -> None:
        self.skip = on_error == "skip"
        self._findings = findings
        self.facts: dict[str, str | int] = {f"skipped_{kind}": 0 for kind in kinds}

    def note(self, kind: str, problem: str, count: int = 1) -> None:
        """`count` images are left out. Raises UserError with `problem`, a sentence that ends with a remedy, else."""
        if self._findings is not None:
            self._findings.note(kind, problem, count)
        elif not self.skip:
            raise UserError(f"{problem}, {SKIP}")
        self.facts[f"skipped_{kind}"] = int(self.facts.get(f"skipped_{kind}", 0)) + count


class Selection:
    """Some of other images, in the order of `positions`, sharing their memory."""

    def __init__(self, images: Images, positions: Sequence[int] | NDArray[np.int64]) -> None:
        self._images = images
        self._positions = np.asarray(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._positions)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (n, 3, side, side) of the given positions within the selection."""
        return self._images.load(self._positions[indices])


def readable(paths: Sequence[str | Path], note: Path | None = None) -> list[bool]:
    """Whether each image can be decoded, found out by decoding it.

    `note` is a file that keeps the answer until one of the images changes; it must belong to exactly these images.
    """
    kept = kept_array(note, np.bool_, len(paths))
    if note is None or kept is None or _changed_since(note, paths):
        kept = np.array(in_threads(_reads, paths), dtype=np.bool_)
        keep_array(note, kept)
    return kept.tolist()


def loadable(images: Images, note: Path | None = None) -> NDArray[np.bool_]:
    """Whether each image can be loaded, found out by loading it: bool (n,).

    `note` is a file that keeps the answer; its name must change whenever one of the images does.
    """
    if (kept := kept_array(note, np.bool_, len(images))) is not None:
        return kept
    answer = np.array(in_threads(lambda row: _loads(images, row) is None, range(len(images))), dtype=np.bool_)
    keep_array(note, answer)
    return answer


def kept_array(note: Path | None, kind: type[np.generic], count: int | None = None) -> NDArray[Any] | None:
    """What `keep_array` wrote, if it is of this kind and, where `count` is given, of this length."""
    if note is not None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            kept = np.load(note, allow_pickle=False)
            if kept.dtype == kind and kept.ndim == 1 and count in (None, len(kept)):
                return kept  # type: ignore[no-any-return]
    return None


def keep_array(note: Path | None, values: NDArray[Any]) -> None:
    """Write (n,) to the file `note`, where that is possible."""
    if note is not None:
        draft = note.with_name(f"{os.getpid()}-{note.name}")
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            np.save(draft, values)
            os.replace(draft, note)


def complaints(images: Images) -> Iterator[str]:
    """Why each image that cannot be loaded cannot be."""
    for start in range(0, len(images), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(images)))
        yield from filter(None, in_threads(lambda row: _loads(images, row), rows))


def _loads(images: Images, row: int) -> str | None:
    """What is wrong with an image."""
    try:
        images.load(np.array([row]))
    except UserError as error:
        return str(error)
    return None


def _changed_since(note: Path, paths: Sequence[str | Path]) -> bool:
    try:
        written = note.stat().st_mtime_ns
        return any(os.stat(path).st_ctime_ns >= written for path in paths)
    except (OSError, ValueError):
        return True


def _reads(path: str | Path) -> bool:
    try:
        decode(path, 32)
    except UserError:
        return False
    return True


def file_facts(path: str | bytes | Path, folder: int | None = None) -> tuple[int, int]:
    """Bytes, -1 where there is no such file, and when it changed, in ns. `path` may be relative to the handle `folder`."""
    try:
        facts = os.stat(path, dir_fd=folder)
    except (OSError, ValueError):
        return -1, 0
    return (facts.st_size, facts.st_ctime_ns) if stat.S_ISREG(facts.st_mode) else (-1, 0)


def file_size(path: str | Path) -> int:
    """In bytes; -1 where there is no such file."""
    return file_facts(path)[0]


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What `work` gives for each of the items, in their order."""
    results: list[Result] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(items), _CHUNK):
            chunk: Iterable[Item] = items[start : start + _CHUNK]
            results.extend(pool.map(work, chunk))
    return results
