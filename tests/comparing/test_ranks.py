"""Ranks against enumeration and a worked example."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench.statistics.ranks import friedman, ranks

# Table 6 of Demsar (2006): AUC of C4.5 and three variants on 14 data sets.
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_ranks_and_critical_difference_of_a_published_comparison() -> None:
    """Mean ranks 3.143, 2.000, 2.893, 1.964 and a critical difference of 1.25 for four classifiers on 14 data sets."""
    np.testing.assert_allclose(ranks(-AUC[None]).mean, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    result = friedman(-AUC)
    assert result is not None
    assert result.critical_difference == pytest.approx(1.25, abs=0.005)
    assert result.p == pytest.approx(stats.friedmanchisquare(*AUC.T).pvalue)


def test_few_blocks_are_not_tested() -> None:
    assert friedman(np.zeros((9, 4))) is None
    assert friedman(np.zeros((20, 2))) is None


def test_the_interval_is_that_of_all_resamples() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2, 3))
    everything = [
        stats.rankdata(values[list(seeds)].mean(axis=0), axis=1).mean(axis=0) for seeds in product(range(3), repeat=3)
    ]
    result = ranks(values)
    for low, high, of_one in zip(result.low, result.high, np.transpose(everything), strict=True):
        assert {low, high} <= set(of_one)
        assert max(np.mean(of_one < low), np.mean(of_one > high)) <= 0.03
