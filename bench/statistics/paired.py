"""Two defenses compared on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

CONFIDENCE = 0.95
POWER = 0.8
LEAST_SEEDS = 2
"""One seed has no spread, and no number of probe images replaces it."""


@dataclass(frozen=True)
class Paired:
    """Differences of two defenses, seed by seed.

    Attributes
    ----------
    seeds : int
        At least 2.
    difference : float
        Mean of the differences, in the unit of the measure.
    deviation : float
        Their sample standard deviation.
    low, high : float
        95% confidence interval of the mean difference, Student's t with seeds - 1 degrees of freedom.
    p : float
        Two-sided, of a mean difference of 0; 1 where all differences are 0, 0 where they are equal and not 0.
    detectable : float
        The smallest true mean difference that a test at 5% finds with a probability of 80%, given this deviation.
    """

    seeds: int
    difference: float
    deviation: float
    low: float
    high: float
    p: float
    detectable: float

    def equivalent(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is at least `bound` in size (two one-sided t tests, TOST).

        Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987). Small values say that the two are as good as equal.
        """
        return max(_one_sided(self, bound, above=True), _one_sided(self, bound, above=False))

    def at_most(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is at least `bound`: one-sided t test of non-inferiority."""
        return _one_sided(self, bound, above=False)


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare `first` with `second`, float (seeds,) each, values of the same seeds at the same places.

    The seed is the unit, whatever the number of probe images: probes share a training, and targets its poison (a cluster).

    Raises
    ------
    ValueError
        With fewer than two seeds, or of unequal length.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    seeds = len(differences)
    if len(first) != len(second) or seeds < LEAST_SEEDS:
        raise ValueError(f"{len(first)} and {len(second)} values: as many of both, of two seeds at least")
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if math.isclose(deviation, 0, abs_tol=1e-12):
        deviation = 0.0
    error = deviation / math.sqrt(seeds)
    half = _quantile(seeds - 1) * error
    return Paired(
        seeds, mean, deviation, mean - half, mean + half, _two_sided(mean, error, seeds), detectable(deviation, seeds)
    )


def detectable(deviation: float, seeds: int) -> float:
    """Smallest mean difference that a two-sided paired t test at 5% finds with a probability of 80%; 0 without deviation.

    From the noncentral t distribution's upper tail: less than 1 in 100,000 such differences is found with the wrong sign.
    Infinite for fewer than two seeds.
    """
    if seeds < LEAST_SEEDS:
        return math.inf
    shift = float(special.nctdtrinc(seeds - 1, 1 - POWER, _quantile(seeds - 1)))
    return deviation / math.sqrt(seeds) * shift


def _quantile(freedom: int) -> float:
    """Student's t, of which (1 - CONFIDENCE) / 2 lies above."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _two_sided(mean: float, error: float, seeds: int) -> float:
    if not error:
        return float(math.isclose(mean, 0, abs_tol=1e-12))
    return float(2 * special.stdtr(seeds - 1, -abs(mean) / error))


def _one_sided(result: Paired, bound: float, *, above: bool) -> float:
    """Against a true difference of -bound or less where `above`, else of bound or more."""
    distance = result.difference + bound if above else bound - result.difference
    error = result.deviation / math.sqrt(result.seeds)
    if not error:
        return float(distance <= 0)
    return float(special.stdtr(result.seeds - 1, -distance / error))
