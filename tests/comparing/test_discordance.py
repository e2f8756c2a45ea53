"""Against scipy's binomial test, and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.statistics.discordance import discordance


@pytest.mark.parametrize("seed", range(8))
def test_counts_and_p_are_those_of_a_loop_and_of_a_binomial_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 2000))
    first, second = rng.random(n) < rng.random(), rng.random(n) < rng.random()
    found = discordance(first, second)
    alone = sum(a and not b for a, b in zip(first, second, strict=True))
    other = sum(b and not a for a, b in zip(first, second, strict=True))
    assert (found.probes, found.first, found.second) == (n, alone, other)
    assert found.p == pytest.approx(stats.binomtest(alone, alone + other).pvalue, rel=1e-9) if alone + other else found.p == 1
    assert discordance(second, first).p == found.p


@pytest.mark.parametrize(("alone", "other"), [(0, 0), (1, 0), (0, 5), (0, 6), (3, 3), (4, 3), (1, 9), (40, 400)])
def test_small_counts(alone: int, other: int) -> None:
    first = np.repeat([True, False, True, False], [alone, other, 7, 2])
    second = np.repeat([False, True, True, False], [alone, other, 7, 2])
    expected = stats.binomtest(alone, alone + other).pvalue if alone + other else 1
    assert discordance(first, second).p == pytest.approx(expected)
