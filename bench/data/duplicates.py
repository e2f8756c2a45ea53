"""Duplicate images and pairs, found without a Python object a row, and splits that keep the rows of an image together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from bench.data.columns import Column, Texts
from bench.data.files import read_map
from bench.data.mentions import MentionIndex
from bench.errors import UserError

Read = Callable[[int, int, int], bytes]
"""`read(row, start, count)`: `count` bytes of a row's encoded image, from byte `start` on."""

_DIGEST_BYTES = 16
_BLOCK = 4096
_CHUNK = 256


def digests(contents: Iterable[bytes]) -> NDArray[np.uint64]:
    """128-bit hashes, one for each of `contents`: uint64 (n, 2)."""
    joined, rest = bytearray(), map(_digest, contents)
    while block := b"".join(islice(rest, _BLOCK)):
        joined += block
    return _as_numbers(joined)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _as_numbers(joined: bytes | bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def first_occurrence(*keys: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row, the index of the first row with equal keys: int64 (n,). `keys` are (n,) or (n, m)."""
    columns = [column for key in keys for column in np.atleast_2d(key.T)]
    order = np.lexsort(columns)
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = np.logical_or.reduce([column[order[1:]] != column[order[:-1]] for column in columns])
    firsts = np.empty(len(order), dtype=np.int64)
    firsts[order] = order[new].repeat(np.diff(np.append(np.flatnonzero(new), len(order))))
    return firsts


def first_image(sizes: NDArray[np.int64], read: Read) -> NDArray[np.int64]:
    """For each row, the index of the first row whose encoded image has the same bytes: int64 (n,).

    Images of equal size are compared by 4 KiB from their middle and, where these agree, by all their bytes, so little of a
    large data set without duplicates is read. An empty image equals no other.

    Parameters
    ----------
    sizes : int64 (n,)
        Size of each encoded image in bytes.
    read : Read
        Reads bytes of an encoded image.
    """
    rows = _with_duplicates(np.flatnonzero(sizes > 0), sizes)
    middle = np.zeros((len(sizes), 2), dtype=np.uint64)
    middle[rows] = _read(rows, sizes, lambda row, size: read(row, max(0, size - _BLOCK) // 2, _BLOCK))
    rows = _with_duplicates(rows, sizes, middle)
    firsts = np.arange(len(sizes))
    firsts[rows] = rows[first_occurrence(_read(rows, sizes, lambda row, size: read(row, 0, size)))]
    return firsts


def _with_duplicates(rows: NDArray[np.int64], *keys: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
    """Those of `rows` that share their keys with another of them."""
    groups = first_occurrence(*(key[rows] for key in keys))
    return rows[np.bincount(groups, minlength=len(rows))[groups] > 1]


def _read(rows: NDArray[np.int64], sizes: NDArray[np.int64], read: Callable[[int, int], bytes]) -> NDArray[np.uint64]:
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]

    def digest(chunk: NDArray[np.int64]) -> bytes:
        return b"".join(_digest(read(row, size)) for row, size in zip(chunk.tolist(), sizes[chunk].tolist(), strict=True))

    return _as_numbers(b"".join(read_map(digest, chunks)))


def read_bytes(path: str, start: int, count: int) -> bytes:
    """Bytes of a file; the path itself if the file cannot be read, so that it equals no other."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            return os.pread(handle, count, start)
        finally:
            os.close(handle)
    except OSError:
        return os.fsencode(path)


def is_repeated(image_of: NDArray[np.int64], captions: Texts) -> NDArray[np.bool_]:
    """Whether an earlier row has the same image and caption: bool (n,). image_of: int64 (n,), equal for rows of one image."""
    rows = _with_duplicates(np.arange(len(image_of)), image_of)
    repeated = np.zeros(len(image_of), dtype=np.bool_)
    firsts = first_occurrence(image_of[rows], digests(captions.select(rows).encoded()))
    repeated[rows] = firsts != np.arange(len(rows))
    return repeated


def occurrence_number(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of earlier rows with the same key: int64 (n,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    numbers = np.empty(len(keys), dtype=np.int64)
    numbers[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return numbers


def split_by_image(
    image_of: NDArray[np.int64], rows: NDArray[np.int64], share: float, seed: int, source: str
) -> dict[str, NDArray[np.int64]]:
    """Split `rows` at random into train, holdout and test, keeping the rows of an image together.

    Parameters
    ----------
    image_of : int64 (n,)
        A number that is equal for rows of one image.
    rows : int64 (m,)
        The rows to split.
    share : float
        Share of the images held out; half of them go to holdout, half to test.
    seed : int
        Seed of the split.
    source : str
        How the error message begins, such as "FILE lists".

    Raises
    ------
    UserError
        If there are too few images to split.
    """
    images, position = np.unique(image_of[rows], return_inverse=True)
    held_out = max(2, round(share * len(images)))
    if len(images) <= held_out:
        hint = "give more, or a lower holdout_share"
        raise UserError(f"{source} {len(images)} usable images, too few to split: {hint}")
    rank = np.random.default_rng(seed).permutation(len(images))[position]
    bounds = {"train": (held_out, len(images)), "holdout": (0, held_out // 2), "test": (held_out // 2, held_out)}
    return {part: rows[(start <= rank) & (rank < end)] for part, (start, end) in bounds.items()}


def chained(first: Read, count: int, second: Read) -> Read:
    """A reader of the `count` rows of `first`, followed by the rows of `second`."""

    def read(row: int, start: int, size: int) -> bytes:
        return first(row, start, size) if row < count else second(row - count, start, size)

    return read


def holdout_and_test(
    train: int, sizes: NDArray[np.int64], read: Read, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two random halves, by image, of the rows after the first `train`, without images that occur among those.

    Parameters
    ----------
    train : int
        The number of training rows, which come first.
    sizes, read
        Of all rows, as in `first_image`.
    seed : int
        Seed of the split.

    Returns
    -------
    holdout, test : int64
        Rows, counted from the first one after the training rows.
    """
    firsts = first_image(np.where(np.isin(sizes, sizes[train:]), sizes, 0), read)[train:]
    return halves_by_image(firsts, np.flatnonzero(firsts >= train), seed)


def halves_by_image(
    image_of: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`rows` in two random halves, by image. image_of: int64 (n,), equal for rows of one image."""
    images, position = np.unique(image_of[rows], return_inverse=True)
    first = (np.random.default_rng(seed).permutation(len(images)) < len(images) // 2)[position]
    return rows[first], rows[~first]


def sharing_facts(image_of: NDArray[np.int64]) -> dict[str, str | int]:
    """The number of distinct images, and of rows whose image another row has too."""
    counts = np.unique(image_of, return_counts=True)[1]
    return {"images": len(counts), "rows_sharing_an_image": int(counts[counts > 1].sum())}


class ImageCaptions:
    """All captions of each image.

    Parameters
    ----------
    captions : sequence of n str
        The captions.
    image_of : int64 (n,)
        A number that is equal for captions of one image.
    """

    def __init__(self, captions: Sequence[str], image_of: NDArray[np.int64]) -> None:
        self._captions = captions
        self._order = np.argsort(image_of, kind="stable")
        self._images = image_of[self._order]

    def of(self, image: int) -> Iterator[str]:
        start, end = np.searchsorted(self._images, (image, image + 1))
        return (self._captions[caption] for caption in self._order[start:end])


class ImageMembers(Column[tuple[int, ...]]):
    """The classes that any caption of a row's image mentions, computed on access.

    Parameters
    ----------
    image_of : int64 (n,)
        The image of each row, numbered as in `captions`.
    captions : ImageCaptions
        The captions of all images.
    index : MentionIndex
        Finds class names in captions.
    """

    def __init__(self, image_of: NDArray[np.int64], captions: ImageCaptions, index: MentionIndex) -> None:
        self._image_of = image_of
        self._captions = captions
        self._index = index

    def __len__(self) -> int:
        return len(self._image_of)

    def _at(self, row: int) -> tuple[int, ...]:
        return self._index.members(*self._captions.of(int(self._image_of[row])))
