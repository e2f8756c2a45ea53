"""Holm's method is Bonferroni's test of every subset (closed testing)."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from bench.statistics.families import holm


def _closed(values: list[float]) -> list[float]:
    """The largest Bonferroni p value of the subsets that hold a hypothesis, by enumeration."""
    places = range(len(values))
    subsets = [subset for size in range(1, len(values) + 1) for subset in combinations(places, size)]
    return [min(1.0, max(len(s) * min(values[i] for i in s) for s in subsets if place in s)) for place in places]


def test_holm_is_closed_testing() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 8):
        values = [float(value) for value in rng.beta(0.5, 3, size)]
        np.testing.assert_allclose(holm(values), _closed(values))


def test_ties_and_an_empty_family() -> None:
    assert holm([0.01, 0.01, 0.8]) == [0.03, 0.03, 0.8]
    assert holm([]) == []


def test_the_family_errs_in_one_of_twenty_cases() -> None:
    rng = np.random.default_rng(1)
    wrong = np.mean([min(holm(list(rng.uniform(size=6)))) < 0.05 for _ in range(5_000)])
    assert 0.04 < wrong < 0.06
