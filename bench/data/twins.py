"""Pairs and images that occur twice in a download, by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data import same
from bench.data.files import keep_array, kept_array
from bench.data.shards import Shards

_FORMAT = "twins 1"

Rows = NDArray[np.int64]


def repeated_pairs(part: Shards, cache: Path | None) -> Rows:
    """The pairs whose caption and bytes of the image a pair before has: int64 (n,). An empty image is like no other."""

    def find() -> Rows:
        rows = np.flatnonzero(part.sizes > 0)
        rows = rows[_several(same.first_of(part.sizes[rows], part.captions.lengths[rows]))]
        captions = same.digests(part.captions.select(rows).encoded())
        again = _several(same.first_of(part.sizes[rows], captions))
        rows, captions = rows[again], captions[again]
        firsts = same.first_of(_first_image(part, rows), captions)
        return rows[firsts != np.arange(len(rows))]

    return _kept(cache, f"{part.digest()} pairs", find)


def first_images(val: Shards, train: Shards, cache: Path | None) -> tuple[Rows, Rows]:
    """For each image of `val` the first with the same bytes, int64 (n,); and the rows of `train` whose image is in `val`.

    Of a training image at most a piece is read, and only where its size is that of an image of `val`; where the pieces are
    the same too, the whole.
    """

    def find() -> Rows:
        rows = np.flatnonzero(np.isin(train.sizes, val.sizes[val.sizes > 0]))
        first = _first_image(val, np.arange(len(val)), train, rows)
        shared = rows[first[len(val) :] < len(val)]
        return np.concatenate((first[: len(val)], shared))

    found = _kept(cache, f"{val.digest()} {train.digest()} images", find)
    return found[: len(val)], found[len(val) :]


def _several(firsts: Rows) -> NDArray[np.bool_]:
    """Which rows have the first row of another too."""
    return np.bincount(firsts, minlength=len(firsts))[firsts] > 1


def _first_image(part: Shards, rows: Rows, other: Shards | None = None, more: Rows | None = None) -> Rows:
    """The position of the first image with the same bytes, among `rows` of one part and `more` of another, for each."""
    chosen = part.select(rows)
    if other is None or more is None:
        return same.first_image(chosen.sizes, chosen.encoded())
    extra = other.select(more)
    read = same.one_after_another(chosen.encoded(), len(chosen), extra.encoded())
    return same.first_image(np.concatenate((chosen.sizes, extra.sizes)), read)


def _kept(cache: Path | None, identity: str, find: Callable[[], Rows]) -> Rows:
    """Rows from the cache, else found and kept there."""
    name = hashlib.sha256(f"{_FORMAT} {identity}".encode()).hexdigest()[:24]
    note = cache / f"twins-{name}.npy" if cache else None
    if (rows := kept_array(note, np.int64)) is None:
        rows = find()
        keep_array(note, rows)
    return rows
