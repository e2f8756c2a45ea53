"""Similarities of images and captions as run records hold them; None where a record has none or a damaged one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.reports.labels import is_number
from bench.reports.records import Record

BINS = 40
"""Equal bins of a histogram, over [-1, 1]."""
EXAMPLES = 7
POISON = "poison"
"""The label of a poisoned pair among the examples."""


@dataclass(frozen=True)
class Examples:
    """Similarities of some training pairs after training: a row an image, a column a caption."""

    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def poison(self) -> int | None:
        return self.labels.index(POISON) if POISON in self.labels else None


@dataclass(frozen=True)
class Distribution:
    """Histograms of the similarity of clean and of poisoned pairs after an epoch, which is counted from 1."""

    epoch: int
    clean: tuple[int, ...]
    poison: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(a + b for a, b in zip(self.clean, self.poison, strict=True))


@dataclass(frozen=True)
class Component:
    """A Gaussian of a mixture."""

    mean: float
    std: float
    weight: float


@dataclass(frozen=True)
class Split:
    """What a defense made of a distribution: the mixture, lower component first, and the safe set from `cut` upward.

    No components: no mixture could be fitted.
    """

    distribution: Distribution
    components: tuple[Component, ...]
    cut: float
    safe: int
    poisons: int


def examples_of(record: Record) -> Examples | None:
    found = record.get("examples")
    if not isinstance(found, dict):
        return None
    labels: Any = found.get("labels")
    rows: Any = found.get("values")
    if not _filled(labels, EXAMPLES, str) or not _filled(rows, EXAMPLES, list):
        return None
    if not all(len(row) == EXAMPLES and all(map(is_number, row)) for row in rows):
        return None
    return Examples(tuple(labels), tuple(tuple(float(value) for value in row) for row in rows))


def distribution_of(record: Record) -> Distribution | None:
    """The first with poisons; of a defense that splits the pairs the first after a split."""
    found = [(entry, seen) for entry in _entries(record) if (seen := _distribution(entry)) and any(seen.poison)]
    split = [seen for entry, seen in found if "safe_poisons" in entry]
    return next(iter(split or [seen for _, seen in found]), None)


def split_of(record: Record) -> Split | None:
    """The first split of a defense that fits a mixture."""
    return next((split for entry in _entries(record) if (split := _split(entry))), None)


def _entries(record: Record) -> Iterator[Record]:
    return (entry for entry in record.get("curves") or [] if isinstance(entry, dict))


def _distribution(entry: Record) -> Distribution | None:
    epoch: Any = entry.get("epoch")
    clean: Any = entry.get("similarity_clean")
    poison: Any = entry.get("similarity_poison")
    if not isinstance(epoch, int) or not _counts(clean) or not _counts(poison) or not any(clean):
        return None
    return Distribution(epoch + 1, tuple(clean), tuple(poison))


def _split(entry: Record) -> Split | None:
    distribution = _distribution(entry)
    found = _numbers(entry, "gmm_degenerate", "safe_cut", "safe_share", "safe_poisons")
    if not distribution or not found:
        return None
    degenerate, cut, share, poisons = found
    components = () if degenerate else _components(entry)
    if components is None:
        return None
    return Split(distribution, components, cut, round(share * sum(distribution.all)), round(poisons))


def _components(entry: Record) -> tuple[Component, ...] | None:
    names = "gmm_lower_mean", "gmm_lower_std", "gmm_upper_mean", "gmm_upper_std", "gmm_lower_weight"
    found = _numbers(entry, *names)
    if not found:
        return None
    lower_mean, lower_std, upper_mean, upper_std, weight = found
    if not all(1e-9 < std < 1e9 for std in (lower_std, upper_std)) or not 0 <= weight <= 1:
        return None
    return Component(lower_mean, lower_std, weight), Component(upper_mean, upper_std, 1 - weight)


def _numbers(entry: Record, *names: str) -> list[float] | None:
    values: list[Any] = [entry.get(name) for name in names]
    return [float(value) for value in values] if all(map(is_number, values)) else None


def _counts(values: Any) -> bool:
    return _filled(values, BINS, int) and all(value >= 0 for value in values)


def _filled(values: Any, length: int, kind: type) -> bool:
    """A list of `length` items of a type; null and true are not numbers."""
    return isinstance(values, list) and len(values) == length and all(type(value) is kind for value in values)
