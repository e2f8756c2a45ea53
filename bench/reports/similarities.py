"""Image-caption similarities from run records; None if a record has none or they are damaged."""

from __future__ import annotations

from dataclasses import dataclass

from bench.matrix.old_records import meaning_of
from bench.matrix.schema import CurvePoint, Examples, RunRecord
from bench.meaning import Meaning, Mixture

BINS = 40
"""Number of bins of a histogram over [-1, 1]."""
EXAMPLES = 7
POISONS = "safe_poisons"
"""Telemetry: the number of poisons in the safe set."""


@dataclass(frozen=True)
class Distribution:
    """Histograms of the similarity of clean and of poisoned pairs after an epoch, counted from 1."""

    epoch: int
    clean: tuple[int, ...]
    poison: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(a + b for a, b in zip(self.clean, self.poison, strict=True))


@dataclass(frozen=True)
class Component:
    """A Gaussian component of a mixture."""

    mean: float
    std: float
    weight: float


@dataclass(frozen=True)
class Split:
    """A defense's split of the pairs: the fitted mixture and the safe set.

    Attributes
    ----------
    distribution : Distribution
        The similarities.
    components : tuple of Component
        The lower and the upper one; empty if no mixture could be fitted.
    cut : float
        The smallest similarity in the safe set.
    safe, poisons : int
        The numbers of pairs and of poisons in the safe set.
    """

    distribution: Distribution
    components: tuple[Component, ...]
    cut: float
    safe: int
    poisons: int


def examples_of(record: RunRecord) -> Examples | None:
    """The similarities of seven example pairs; None if a record has another number of them."""
    found = record.examples
    return found if found and {len(found.labels), len(found.values), *map(len, found.values)} == {EXAMPLES} else None


def distribution_of(record: RunRecord) -> Distribution | None:
    """The first distribution with poisons; for a defense that splits the pairs, the first after a split."""
    found = [(point, seen) for point in record.curves if (seen := _distribution(point)) and any(seen.poison)]
    split = [seen for point, seen in found if POISONS in point.telemetry]
    return next(iter(split or [seen for _, seen in found]), None)


def split_of(record: RunRecord) -> Split | None:
    """The first split of a defense that fits a mixture."""
    meaning = meaning_of(record)
    return next((split for point in record.curves if (split := _split(point, meaning))), None)


def _distribution(point: CurvePoint) -> Distribution | None:
    clean, poison = (point.counts(f"similarity_{kind}", BINS) for kind in ("clean", "poison"))
    if point.epoch is None or not clean or not poison or not any(clean):
        return None
    return Distribution(point.epoch + 1, clean, poison)


def _split(point: CurvePoint, meaning: Meaning) -> Split | None:
    distribution = _distribution(point)
    cut, share, poisons = point.number(meaning.safe_cut), point.share(meaning.safe_share), point.number(POISONS)
    components = _components(point, meaning.mixture) if meaning.mixture else None
    if distribution is None or components is None or cut is None or share is None or poisons is None:
        return None
    return Split(distribution, components, cut, round(share * sum(distribution.all)), round(poisons))


def _components(point: CurvePoint, mixture: Mixture) -> tuple[Component, ...] | None:
    """The lower and the upper component; empty if none could be fitted, None if a number is missing or invalid."""
    degenerate = point.number(mixture.degenerate)
    if degenerate:
        return ()
    names = mixture.lower_mean, mixture.lower_std, mixture.lower_weight, mixture.upper_mean, mixture.upper_std
    found = [value for name in names if (value := point.number(name)) is not None]
    if degenerate is None or len(found) < len(names):
        return None
    lower_mean, lower_std, weight, upper_mean, upper_std = found
    if not all(1e-9 < std < 1e9 for std in (lower_std, upper_std)) or not 0 <= weight <= 1:
        return None
    return Component(lower_mean, lower_std, weight), Component(upper_mean, upper_std, 1 - weight)
