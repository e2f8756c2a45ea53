"""Adversarial captions: training captions that mention a class, from which poisons take theirs."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache

import numpy as np

from bench.api import DatasetBundle
from bench.data.mentions import MentionIndex
from bench.errors import UserError


class AdversarialCaptions:
    """The training captions that mention each class of the vocabulary, as whole words (Yang et al. 2024).

    Parameters
    ----------
    bundle : DatasetBundle
        The data set. Its captions are searched once and the result is shared by all attacks.
    """

    def __init__(self, bundle: DatasetBundle) -> None:
        self._bundle = bundle
        self._rows = _by_class(bundle)

    def of(self, target: int) -> tuple[str, ...]:
        """All training captions that mention class `target`, in order."""
        return tuple(self._bundle.train.captions[row] for row in self._rows.get(target, ()))

    def rows(self, target: int) -> list[int]:
        """Indices of the training pairs whose caption mentions class `target`, in order."""
        return list(self._rows.get(target, ()))

    def eligible(self, min_captions: int) -> list[int]:
        """Classes mentioned by at least `min_captions` training captions, sorted. Raises UserError if there are none."""
        classes = sorted(target for target, rows in self._rows.items() if len(rows) >= min_captions)
        if not classes:
            most = max((len(rows) for rows in self._rows.values()), default=0)
            raise UserError(
                f"no class of the vocabulary is mentioned by {min_captions} training captions (the most frequent by {most}); "
                "lower --set attack.min_captions or use captions that name these classes"
            )
        return classes

    def target(self, name: str, min_captions: int, rng: np.random.Generator) -> int:
        """Index of the class called `name`, or of a random eligible class if `name` is empty.

        Raises UserError if the class is unknown or no training caption mentions it.
        """
        if not name:
            return int(rng.choice(self.eligible(min_captions)))
        if name not in self._bundle.vocabulary.names:
            raise UserError(f"--set attack.target={name}: no such class in the vocabulary of the data set")
        target = self._bundle.vocabulary.names.index(name)
        if not self.of(target):
            raise UserError(f"--set attack.target={name}: no training caption mentions '{name}'; choose another class")
        return target


@cache
def _by_class(bundle: DatasetBundle) -> dict[int, array[int]]:
    """Indices of the training pairs whose caption mentions a class, for each class that is mentioned."""
    index = MentionIndex.of(bundle.vocabulary)
    rows: dict[int, array[int]] = {}
    for row, caption in enumerate(bundle.train.captions):
        for target in index.members(caption):
            rows.setdefault(target, array("q")).append(row)
    return rows


def draw(captions: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Sample `count` captions with replacement."""
    return [captions[index] for index in rng.integers(len(captions), size=count)]


def poison_count(rate: float, pairs: int) -> int:
    """Number of poisons at poison rate `rate`, rounded. Raises UserError if it is 0."""
    count = round(rate * pairs)
    if count < 1:
        raise UserError(f"--set attack.rate={rate:g} poisons none of the {pairs} training pairs; raise it to {1 / pairs:.2g}")
    return count
