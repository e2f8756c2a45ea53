"""Which defense comes first, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
LEAST_BLOCKS = 10
"""Of a Friedman test: attack and data set make a block. With fewer its chi-squared distribution does not hold."""


@dataclass(frozen=True)
class Ranks:
    """Mean rank of each defense over the blocks, 1 the best, and its 95% bootstrap interval; float64 (defenses,) each."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Friedman:
    """p of "all defenses are equal", and the difference of mean ranks above which two of them differ (Nemenyi, at 5%)."""

    p: float
    critical_difference: float


def ranks(values: NDArray[np.float64], seed: int = 0) -> Ranks:
    """Rank defenses by their mean over seeds in each block; equal ones share the mean of their ranks.

    The bootstrap draws seeds with replacement, the same for all defenses and blocks.

    Parameters
    ----------
    values : float64 (seeds, blocks, defenses)
        The smaller the better.
    """
    rng = np.random.default_rng(seed)
    seeds = len(values)
    shares = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    resampled = _mean_ranks(np.tensordot(shares, values, axes=1).round(12))
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return Ranks(_mean_ranks(values.mean(axis=0).round(12)), low, high)


def friedman(values: NDArray[np.float64]) -> Friedman | None:
    """Test means over seeds, float64 (blocks, defenses), the smaller the better. Demsar, JMLR 7 (2006).

    None with fewer than ten blocks or three defenses: there the test says nothing.
    """
    blocks, defenses = values.shape
    if blocks < LEAST_BLOCKS or defenses < 3:
        return None
    _, p = stats.friedmanchisquare(*values.T)
    quantile = float(stats.studentized_range.ppf(0.95, defenses, math.inf)) / math.sqrt(2)
    return Friedman(float(p), quantile * math.sqrt(defenses * (defenses + 1) / (6 * blocks)))


def _mean_ranks(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks over blocks of float64 (..., blocks, defenses): float64 (..., defenses). Rounded means tie as they should."""
    mean: NDArray[np.float64] = stats.rankdata(means, axis=-1).mean(axis=-2)
    return mean
