"""Published splits: which of train, val and test an image is in, and what becomes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data import duplicates
from bench.errors import UserError, did_you_mean

TRAIN, TEST, VAL = range(3)
_CODES = {
    "train": TRAIN,
    "training": TRAIN,
    "restval": TRAIN,
    "test": TEST,
    "testing": TEST,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
}


def code(name: str) -> int:
    """The split of a name, whatever its case; Karpathy's `restval` is train. Raises LookupError with a hint."""
    key = name.strip().lower()
    if key not in _CODES:
        raise LookupError(f"{name.strip()!r} is none of train, val and test; {did_you_mean(key, _CODES)}")
    return _CODES[key]


def published(
    image_of: NDArray[np.int64], rows: NDArray[np.int64], split_of: NDArray[np.int8], found: str
) -> tuple[dict[str, NDArray[np.int64]], dict[str, str | int]]:
    """Those of `rows` in train, holdout (the adversary's: val) and test, and how many were left out.

    An image of several splits stays in train where that is one, else in test. Where only one of val and test has images, half
    of them are holdout. image_of: int64 (n,), equal for rows of one image; split_of: int8 (n,). Raises UserError, which begins
    with `found`, where all rows are of one split.
    """
    own = np.full(len(image_of), VAL, dtype=np.int8)
    np.minimum.at(own, image_of[rows], split_of[rows])
    kept = rows[split_of[rows] == own[image_of[rows]]]
    parts = {name: kept[split_of[kept] == which] for name, which in (("train", TRAIN), ("holdout", VAL), ("test", TEST))}
    held = parts["holdout"] if len(parts["holdout"]) else parts["test"]
    if not len(parts["train"]) or not len(held):
        lacking = "train" if not len(parts["train"]) else "val or test"
        raise UserError(f"{found} no usable rows of the split {lacking}: give some, or no splits, so that one is drawn")
    if not len(parts["holdout"]) or not len(parts["test"]):
        parts["holdout"], parts["test"] = duplicates.halves_by_image(image_of, held, 0)
    return parts, {"rows_left_out_for_an_image_in_another_split": len(rows) - len(kept)}


def one_row_an_image(image_of: NDArray[np.int64], rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Of the rows of each image one, drawn by seed: int64 (m,), sorted."""
    ordered = rows[np.argsort(image_of[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(image_of[ordered], prepend=-1))
    counts = np.diff(np.append(starts, len(ordered)))
    drawn = (np.random.default_rng(seed).random(len(starts)) * counts).astype(np.int64)
    return np.sort(ordered[starts + drawn])
