"""Kendall's tau of the order of defenses in two settings, and its interval."""

import numpy as np
import pytest
from scipy import stats

from bench.statistics.agreement import agreement


def counts(*hits: int, probes: int = 1000) -> np.ndarray:
    return np.array([(each, probes) for each in hits])


@pytest.mark.parametrize(
    ("first", "second"),
    [((10, 20, 30, 40), (5, 6, 7, 8)), ((10, 20, 30, 40), (8, 7, 5, 5)), ((10, 10, 500, 0), (3, 900, 900, 1))],
)
def test_tau_is_that_of_scipy(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    found = agreement(counts(*first), counts(*second))
    assert found is not None
    assert found.tau == pytest.approx(stats.kendalltau(first, second).statistic)


def test_probes_of_unequal_numbers_are_compared_by_rate() -> None:
    """9 of 10 are more than 90 of 1,000."""
    found = agreement(np.array([(9, 10), (90, 1000)]), counts(2, 1))
    assert found is not None
    assert found.tau == 1


def test_the_interval_covers_what_other_probes_would_show() -> None:
    """Rates far apart leave no doubt; equal ones leave all."""
    sure = agreement(counts(10, 500, 990), counts(5, 400, 900))
    open_ = agreement(counts(500, 501, 502), counts(5, 400, 900))
    assert sure is not None
    assert open_ is not None
    assert (sure.tau, sure.low, sure.high) == (1, 1, 1)
    assert (open_.tau, open_.low, open_.high) == (1, -1, 1)


def test_the_interval_against_a_simulation_in_plain_python() -> None:
    first, second = counts(50, 60, 80, probes=200), counts(10, 30, 28, probes=100)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        one, other = (np.array([rng.binomial(n, hits / n) / n for hits, n in each]) for each in (first, second))
        drawn.append(stats.kendalltau(one, other).statistic)
    found = agreement(first, second)
    assert found is not None
    assert [found.low, found.high] == pytest.approx(np.nanquantile(drawn, [0.025, 0.975]), abs=0.19)


def test_no_order() -> None:
    assert agreement(counts(0, 0, 0), counts(1, 2, 3)) is None
