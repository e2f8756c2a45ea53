"""Duplicate pairs and images within a download of shards, found by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import duplicates
from bench.data.files import load_array, save_array
from bench.data.shards import Shards

_FORMAT = "twins 1"

Rows = NDArray[np.int64]


def repeated_pairs(part: Shards, cache: Path | None) -> Rows:
    """The pairs whose caption and image bytes an earlier pair has: int64 (n,). An empty image equals no other."""

    def find() -> Rows:
        rows = np.flatnonzero(part.sizes > 0)
        rows = rows[_has_duplicate(duplicates.first_occurrence(part.sizes[rows], part.captions.lengths[rows]))]
        captions = duplicates.digests(part.captions.select(rows).encoded())
        again = _has_duplicate(duplicates.first_occurrence(part.sizes[rows], captions))
        rows, captions = rows[again], captions[again]
        firsts = duplicates.first_occurrence(_first_image(part, rows), captions)
        return np.asarray(rows[firsts != np.arange(len(rows))])

    return _cached(cache, f"{part.digest()} pairs", find)


def first_image(part: Shards, cache: Path | None) -> Rows:
    """For each pair, the index of the first one whose image has the same bytes: int64 (n,)."""
    return _cached(cache, f"{part.digest()} first image", lambda: _first_image(part, np.arange(len(part))))


def first_images(val: Shards, train: Shards, cache: Path | None) -> tuple[Rows, Rows]:
    """Duplicates within the validation images, and training images that occur among them.

    A training image is read only if its size is that of a validation image: a block of it first, and all of it only if the
    block is the same too.

    Returns
    -------
    first_of_val : int64 (len(val),)
        For each validation image, the index of the first one with the same bytes.
    shared : int64
        The rows of `train` whose image is in `val`.
    """

    def find() -> Rows:
        rows = np.flatnonzero(np.isin(train.sizes, val.sizes[val.sizes > 0]))
        first = _first_image(val, np.arange(len(val)), train, rows)
        shared = rows[first[len(val) :] < len(val)]
        return np.concatenate((first[: len(val)], shared))

    rows = _cached(cache, f"{val.digest()} {train.digest()} images", find)
    return rows[: len(val)], rows[len(val) :]


def _has_duplicate(firsts: Rows) -> NDArray[np.bool_]:
    """Whether another row has the same first occurrence: bool (n,)."""
    return np.asarray(np.bincount(firsts, minlength=len(firsts))[firsts] > 1)


def _first_image(part: Shards, rows: Rows, other: Shards | None = None, other_rows: Rows | None = None) -> Rows:
    """The position of the first image with the same bytes, among `rows` of `part` followed by `other_rows` of `other`."""
    chosen = part.select(rows)
    if other is None or other_rows is None:
        return duplicates.first_image(chosen.sizes, chosen.encoded())
    extra = other.select(other_rows)
    read = duplicates.chained(chosen.encoded(), len(chosen), extra.encoded())
    return duplicates.first_image(np.concatenate((chosen.sizes, extra.sizes)), read)


def _cached(cache: Path | None, identity: str, find: Callable[[], Rows]) -> Rows:
    """Rows from the cache, or else from `find`, and cached."""
    name = hashlib.sha256(f"{_FORMAT} {identity}".encode()).hexdigest()[:24]
    file = cache / f"twins-{name}.npy" if cache else None
    if (rows := load_array(file, np.int64)) is None:
        rows = find()
        save_array(file, rows)
    return rows
