"""Adversarial captions: what the adversary writes under a poisoned image."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache

import numpy as np

from bench.api import DatasetBundle
from bench.data.mentions import MentionIndex
from bench.errors import UserError


class AdversarialCaptions:
    """The training captions that mention each class of the vocabulary as whole words (Yang et al. 2024)."""

    def __init__(self, bundle: DatasetBundle) -> None:
        self._bundle = bundle
        self._rows = _by_class(bundle)

    def of(self, target: int) -> tuple[str, ...]:
        """All training captions that mention the class."""
        return tuple(self._bundle.train.captions[row] for row in self._rows.get(target, ()))

    def eligible(self, at_least: int) -> list[int]:
        """Classes that at least so many training captions mention, in order. Raises UserError when there is none."""
        classes = sorted(target for target, rows in self._rows.items() if len(rows) >= at_least)
        if not classes:
            most = max((len(rows) for rows in self._rows.values()), default=0)
            raise UserError(
                f"no class of the vocabulary is mentioned by {at_least} training captions (the most mentioned has {most}); "
                "lower --set attack.min_captions or use captions that name such classes"
            )
        return classes

    def target(self, name: str, at_least: int, rng: np.random.Generator) -> int:
        """The class called `name`, or a random eligible one if `name` is empty. Raises UserError."""
        if not name:
            return int(rng.choice(self.eligible(at_least)))
        if name not in self._bundle.vocabulary.names:
            raise UserError(f"--set attack.target={name}: no such class in the vocabulary of the data set")
        target = self._bundle.vocabulary.names.index(name)
        if not self.of(target):
            raise UserError(f"--set attack.target={name}: no training caption mentions '{name}'; choose another class")
        return target


@cache
def _by_class(bundle: DatasetBundle) -> dict[int, array[int]]:
    """The training pairs whose caption mentions each class."""
    index = MentionIndex.of(bundle.vocabulary)
    rows: dict[int, array[int]] = {}
    for row, caption in enumerate(bundle.train.captions):
        for target in index.members(caption):
            rows.setdefault(target, array("q")).append(row)
    return rows


def draw(captions: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` random captions, with repetition."""
    return [captions[index] for index in rng.integers(len(captions), size=count)]


def poison_count(rate: float, pairs: int) -> int:
    """The number of poisons of a rate, rounded to the nearest. Raises UserError when that is none."""
    count = round(rate * pairs)
    if count < 1:
        raise UserError(f"--set attack.rate={rate:g}: that poisons none of {pairs} training pairs; raise it to {1 / pairs:.2g}")
    return count
