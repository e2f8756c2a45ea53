"""Easy data augmentation of captions, drawn anew each time (Wei & Zou 2019)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bench.data.thesaurus import Synonyms

_WORD = re.compile(r"[^\W_]+")


def words(caption: str) -> list[str]:
    """The words of a caption as EDA sees them: lower case, letters and digits."""
    return _WORD.findall(caption.lower())


def augment(caption: Sequence[str], rate: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    """The words of a caption after synonym replacement, random insertion, swap and deletion, each at `rate`.

    Replacement, insertion and swap happen max(1, rate n) times each where they can, as in the paper; deletion takes each word
    with probability `rate`. Only synonyms of the caption's own words come in. A caption never becomes empty.
    """
    if not caption:
        return []
    count = max(1, round(rate * len(caption)))
    changed = list(caption)
    for position in rng.permutation(len(changed))[:count]:
        if known := synonyms(changed[position]):
            changed[position] = known[rng.integers(len(known))]
    for _ in range(count):
        if known := synonyms(caption[int(rng.integers(len(caption)))]):
            changed.insert(int(rng.integers(len(changed) + 1)), known[rng.integers(len(known))])
    for _ in range(count):
        first, second = rng.integers(len(changed)), rng.integers(len(changed))
        changed[first], changed[second] = changed[second], changed[first]
    kept = [word for word, draw in zip(changed, rng.random(len(changed)).tolist(), strict=True) if draw >= rate]
    return kept or [changed[rng.integers(len(changed))]]
