"""Against scipy's tests, tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics.paired import detectable, paired

FIRST = [0.031, 0.012, 0.055, 0.02, 0.041]
SECOND = [0.92, 0.998, 0.871, 0.95, 0.99]


def test_the_interval_and_p_are_those_of_a_t_test() -> None:
    result = paired(FIRST, SECOND)
    reference = stats.ttest_rel(FIRST, SECOND)
    assert result.p == pytest.approx(reference.pvalue)
    assert (result.low, result.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert result.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))


def test_the_tests_with_a_bound_are_t_tests_against_it() -> None:
    differences = np.array([0.004, -0.003, 0.006, 0.001, 0.002])
    result = paired(differences, np.zeros(5))
    below = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    above = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    assert result.equivalent(0.01) == pytest.approx(max(below, above))
    assert result.at_most(0.01) == pytest.approx(below)
    worse = paired(-differences, np.zeros(5))
    assert worse.at_most(0.01) == pytest.approx(above)
    assert worse.equivalent(0.01) == pytest.approx(result.equivalent(0.01))


def test_equal_differences_leave_no_doubt() -> None:
    same, apart = paired([1, 1], [1, 1]), paired([0.1 + 0.2, 0.3], [0, 0])
    assert (same.p, same.low, same.high, same.equivalent(0.01), same.detectable) == (1, 0, 0, 0, 0)
    assert (apart.p, apart.equivalent(0.01), apart.at_most(0.4), apart.detectable) == (0, 1, 0, 0)


@pytest.mark.parametrize(("seeds", "shift"), [(3, 3.264), (5, 1.682), (10, 0.996)])
def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_cases(seeds: int, shift: float) -> None:
    """Shifts in standard deviations."""
    assert detectable(1, seeds) == pytest.approx(shift, abs=5e-4)
    rng = np.random.default_rng(0)
    samples = rng.normal(detectable(1, seeds), 1, size=(20_000, seeds))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_one_seed_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        paired([1.0], [2.0])
    assert math.isinf(detectable(1, 1))
