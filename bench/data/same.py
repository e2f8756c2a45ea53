"""Which rows are the same, without an object a row, and a split that keeps the rows of an image together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bench.data.columns import Column, Texts
from bench.data.files import in_threads
from bench.data.mentions import MentionIndex
from bench.errors import UserError

Read = Callable[[int, int, int], bytes]
"""`read(row, start, count)`: bytes of the encoded image of a row."""

_WIDTH = 16
_PIECE = 4096
_CHUNK = 256


def digests(contents: Iterable[bytes]) -> NDArray[np.uint64]:
    """A hash of 128 bits for each: (n, 2)."""
    joined, rest = bytearray(), map(_digest, contents)
    while block := b"".join(islice(rest, _PIECE)):
        joined += block
    return _numbers(joined)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_WIDTH).digest()


def _numbers(joined: bytes | bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def first_of(*keys: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """The first row that has the same keys, for each row: int64 (n,). `keys` are (n,) or (n, m)."""
    columns = [column for key in keys for column in np.atleast_2d(key.T)]
    order = np.lexsort(columns)
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = np.logical_or.reduce([column[order[1:]] != column[order[:-1]] for column in columns])
    firsts = np.empty(len(order), dtype=np.int64)
    firsts[order] = order[new].repeat(np.diff(np.append(np.flatnonzero(new), len(order))))
    return firsts


def first_image(sizes: NDArray[np.int64], read: Read) -> NDArray[np.int64]:
    """The first row whose encoded image has the same bytes, for each row: int64 (n,). An empty one is like no other.

    sizes: int64 (n,), in bytes. Where they are equal 4 KiB from the middle are compared, and where these are, all bytes: of a
    large data set without repeated images little is read.
    """
    rows = _repeated(np.flatnonzero(sizes > 0), sizes)
    middle = np.zeros((len(sizes), 2), dtype=np.uint64)
    middle[rows] = _read(rows, sizes, lambda row, size: read(row, max(0, size - _PIECE) // 2, _PIECE))
    rows = _repeated(rows, sizes, middle)
    found = np.arange(len(sizes))
    found[rows] = rows[first_of(_read(rows, sizes, lambda row, size: read(row, 0, size)))]
    return found


def _repeated(rows: NDArray[np.int64], *keys: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """Those of `rows` whose keys another of them has."""
    groups = first_of(*(key[rows] for key in keys))
    return rows[np.bincount(groups, minlength=len(rows))[groups] > 1]


def _read(rows: NDArray[np.int64], sizes: NDArray[np.int64], read: Callable[[int, int], bytes]) -> NDArray[np.uint64]:
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]

    def digest(chunk: NDArray[np.int64]) -> bytes:
        return b"".join(_digest(read(row, size)) for row, size in zip(chunk.tolist(), sizes[chunk].tolist(), strict=True))

    return _numbers(b"".join(in_threads(digest, chunks)))


def piece(path: str, start: int, count: int) -> bytes:
    """Bytes of a file; of one that cannot be read its name, which makes it like no other."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            return os.pread(handle, count, start)
        finally:
            os.close(handle)
    except OSError:
        return os.fsencode(path)


def repeated(image_of: NDArray[np.int64], captions: Texts) -> NDArray[np.bool_]:
    """Whether a row before has the same image and caption: bool (n,). image_of: int64 (n,), equal for rows of one image."""
    rows = _repeated(np.arange(len(image_of)), image_of)
    found = np.zeros(len(image_of), dtype=np.bool_)
    found[rows] = first_of(image_of[rows], digests(captions.select(rows).encoded())) != np.arange(len(rows))
    return found


def number(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows before have the same key: int64 (n,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    places = np.empty(len(keys), dtype=np.int64)
    places[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return places


def split(
    image_of: NDArray[np.int64], rows: NDArray[np.int64], share: float, seed: int, found: str
) -> dict[str, NDArray[np.int64]]:
    """Those of `rows` in train, holdout and test: `share` of the images are in the latter, half in each.

    image_of: int64 (n,), equal for rows of one image. Raises UserError, which begins with `found`, where images are too few.
    """
    images, place = np.unique(image_of[rows], return_inverse=True)
    kept = max(2, round(share * len(images)))
    if len(images) <= kept:
        hint = "give more, or a lower holdout_share"
        raise UserError(f"{found} {len(images)} usable images, too few to split: {hint}")
    rank = np.random.default_rng(seed).permutation(len(images))[place]
    ends = {"train": (kept, len(images)), "holdout": (0, kept // 2), "test": (kept // 2, kept)}
    return {part: rows[(start <= rank) & (rank < end)] for part, (start, end) in ends.items()}


def one_after_another(first: Read, count: int, second: Read) -> Read:
    """Reads `count` rows of `first`, then those of `second`."""

    def read(row: int, start: int, size: int) -> bytes:
        return first(row, start, size) if row < count else second(row - count, start, size)

    return read


def halves(train: int, sizes: NDArray[np.int64], read: Read, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random halves, by image, of the rows after the first `train`, without images that are among these.

    sizes: int64 (n,), in bytes, of all rows; see `first_image`. Gives rows counted from `train`, int64 each.
    """
    firsts = first_image(np.where(np.isin(sizes, sizes[train:]), sizes, 0), read)[train:]
    return halved(firsts, np.flatnonzero(firsts >= train), seed)


def halved(image_of: NDArray[np.int64], rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`rows` in two random halves, by image. image_of: int64 (n,), equal for rows of one image."""
    images, place = np.unique(image_of[rows], return_inverse=True)
    held = (np.random.default_rng(seed).permutation(len(images)) < len(images) // 2)[place]
    return rows[held], rows[~held]


def sharing(image_of: NDArray[np.int64]) -> dict[str, str | int]:
    """How many images there are, and how many rows have one that another row has too."""
    counts = np.unique(image_of, return_counts=True)[1]
    return {"images": len(counts), "rows_sharing_an_image": int(counts[counts > 1].sum())}


class ImageMembers(Column[tuple[int, ...]]):
    """The classes that any caption of a row's image mentions, found when asked for.

    image_of: int64 (n,), a number that rows of one image share; caption_of: int64 (m,), that of each caption's image.
    """

    def __init__(
        self, image_of: NDArray[np.int64], captions: Sequence[str], caption_of: NDArray[np.int64], index: MentionIndex
    ) -> None:
        self._image_of = image_of
        self._captions = captions
        self._order = np.argsort(caption_of, kind="stable")
        self._images = caption_of[self._order]
        self._index = index

    def __len__(self) -> int:
        return len(self._image_of)

    def _at(self, row: int) -> tuple[int, ...]:
        image = self._image_of[row]
        start, end = np.searchsorted(self._images, (image, image + 1))
        return self._index.members(*(self._captions[caption] for caption in self._order[start:end]))
