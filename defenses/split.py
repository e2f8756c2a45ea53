"""Split pairs by similarity: a two-component Gaussian mixture of image-caption similarities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Fit:
    """A fitted mixture; the component with the smaller mean comes first.

    Attributes
    ----------
    posterior : float64 (n,)
        Posterior probability of the upper component for each pair, made monotone in the similarity.
    means, variances, weights : (float, float)
        Parameters of the components.
    degenerate : bool
        Whether no mixture could be fitted; `posterior` is then the rank of the similarity, scaled to [0, 1].
    """

    posterior: NDArray[np.float64]
    means: tuple[float, float]
    variances: tuple[float, float]
    weights: tuple[float, float]
    degenerate: bool


def fit(similarities: NDArray[np.float32]) -> Fit:
    """Fit a two-component Gaussian mixture to similarities, float32 (n,), by EM.

    With unequal variances the posterior of the upper component is not monotone: the most similar pairs can get a low one. It is
    made monotone beyond the means; see `monotone`. (The released code of Yang et al. 2024 uses it unchanged.)
    """
    values = similarities.astype(np.float64)
    if len(values) < 2 or float(values.std()) < _SMALLEST_SPREAD:
        return _ranked(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(2, random_state=0, reg_covar=1e-8, n_init=1).fit(values[:, None])
    order = np.argsort(mixture.means_[:, 0])
    means, variances, weights = (part.reshape(2)[order] for part in (mixture.means_, mixture.covariances_, mixture.weights_))
    if means[1] - means[0] < _SMALLEST_SPREAD:
        return _ranked(values)
    posterior = monotone(values, mixture.predict_proba(values[:, None])[:, order[1]], means[0], means[1])
    return Fit(posterior, _pair(means), _pair(variances), _pair(weights), degenerate=False)


def monotone(values: NDArray[np.float64], posterior: NDArray[np.float64], lower: float, upper: float) -> NDArray[np.float64]:
    """Make a posterior non-decreasing in the value: a running minimum downward from `upper`, then a running maximum upward.

    Between the means the posterior of a mixture increases already and is not changed.

    Parameters
    ----------
    values, posterior : float64 (n,)
    lower, upper : float
        The means of the components.

    Returns
    -------
    float64 (n,)
    """
    order = np.argsort(values, kind="stable")
    result = posterior[order].copy()
    below = values[order] < upper
    result[below] = np.minimum.accumulate(result[below][::-1])[::-1]
    result = np.maximum.accumulate(result)
    unsorted = np.empty_like(result)
    unsorted[order] = result
    return unsorted


def top(similarities: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Select the most similar `share` of the pairs, at least one: bool (n,). Ties are resolved by the order of the pairs.

    Since the posterior is monotone in the similarity, these are the pairs that are most likely clean.
    """
    count = min(len(similarities), max(1, round(share * len(similarities))))
    chosen = np.zeros(len(similarities), dtype=bool)
    chosen[np.argsort(-similarities, kind="stable")[:count]] = True
    return chosen


def _ranked(values: NDArray[np.float64]) -> Fit:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values)) / max(1, len(values) - 1)
    mean, variance = float(values.mean()), float(values.var())
    return Fit(ranks, (mean, mean), (variance, variance), (0.0, 1.0), degenerate=True)


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
