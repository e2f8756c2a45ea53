from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.defenses import split


def _mixture(
    n: int, weights: float, means: tuple[float, float], spreads: tuple[float, float], seed: int
) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    lower = rng.random(n) < weights
    return np.where(lower, rng.normal(means[0], spreads[0], n), rng.normal(means[1], spreads[1], n)).astype(np.float32)


def _density(x: float, mean: float, variance: float) -> float:
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def _posterior(x: float, fit: split.Fit) -> float:
    lower, upper = (w * _density(x, m, v) for w, m, v in zip(fit.weights, fit.means, fit.variances, strict=True))
    return upper / (lower + upper)


def _em(values: NDArray[np.float64], steps: int = 2000) -> tuple[NDArray[np.float64], ...]:
    """EM for two Gaussians from the lower and the upper half of the values."""
    belongs = (values > np.median(values)).astype(float)
    resp = np.stack([1 - belongs, belongs])
    for _ in range(steps):
        mass = resp.sum(axis=1)
        means = (resp * values).sum(axis=1) / mass
        variances = (resp * (values - means[:, None]) ** 2).sum(axis=1) / mass
        weights = mass / len(values)
        log = -((values - means[:, None]) ** 2) / (2 * variances[:, None]) - 0.5 * np.log(variances[:, None])
        joint = weights[:, None] * np.exp(log)
        resp = joint / joint.sum(axis=0)
    return means, variances, weights


CASES = [
    (3000, 0.4, (0.0, 0.5), (0.1, 0.1)),
    (2000, 0.6, (-0.2, 0.3), (0.15, 0.05)),
    (2000, 0.5, (0.1, 0.4), (0.03, 0.12)),
]


@pytest.mark.parametrize("case", CASES)
def test_parameters_against_em(case: tuple[int, float, tuple[float, float], tuple[float, float]]) -> None:
    values = _mixture(*case, seed=0)
    fit = split.fit(values)
    means, variances, weights = _em(values.astype(np.float64))
    assert not fit.degenerate
    assert fit.means[0] < fit.means[1]
    assert np.allclose(fit.means, means, atol=0.02)
    assert np.allclose(fit.variances, variances, rtol=0.15)
    assert np.allclose(fit.weights, weights, atol=0.04)
    assert sum(fit.weights) == pytest.approx(1)


@pytest.mark.parametrize("case", CASES)
def test_posterior_between_the_means_in_closed_form(case: tuple[int, float, tuple[float, float], tuple[float, float]]) -> None:
    values = _mixture(*case, seed=1)
    fit = split.fit(values)
    between = [i for i, value in enumerate(values) if fit.means[0] < value < fit.means[1]]
    assert len(between) > 100
    for i in between:
        assert fit.posterior[i] == pytest.approx(_posterior(float(values[i]), fit), abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_posterior_never_falls_with_the_similarity(
    case: tuple[int, float, tuple[float, float], tuple[float, float]],
) -> None:
    values = _mixture(*case, seed=2)
    posterior = split.fit(values).posterior[np.argsort(values)]
    assert (np.diff(posterior) >= 0).all()
    assert posterior.min() >= 0
    assert posterior.max() <= 1


def test_the_most_similar_pairs_of_a_narrow_upper_component_stay_safe() -> None:
    values = _mixture(4000, 0.5, (0.0, 0.5), (0.3, 0.03), seed=3)
    fit = split.fit(values)
    most = int(values.argmax())
    assert _posterior(float(values[most]), fit) < 0.5, "this case must have a raw posterior that falls"
    assert fit.posterior[most] == fit.posterior.max() > 0.9
    assert ((fit.posterior > 0.9) == (values >= values[fit.posterior > 0.9].min())).all()


def test_the_least_similar_pairs_of_a_narrow_lower_component_stay_risky() -> None:
    values = _mixture(4000, 0.5, (0.0, 0.5), (0.03, 0.3), seed=4)
    fit = split.fit(values)
    least = int(values.argmin())
    assert _posterior(float(values[least]), fit) > 0.5, "this case must have a raw posterior that rises downward"
    assert fit.posterior[least] == fit.posterior.min() < 0.1


def _monotone(values: NDArray[np.float64], posterior: NDArray[np.float64], upper: float) -> list[float]:
    """Below the upper mean: the least posterior of what lies from there up to the mean; above: the largest of all below."""
    least = [
        min([q for v, q in zip(values, posterior, strict=True) if value <= v < upper], default=p) if value < upper else p
        for value, p in zip(values, posterior, strict=True)
    ]
    return [max(q for v, q in zip(values, least, strict=True) if v <= value) for value in values]


@pytest.mark.parametrize("seed", range(40))
def test_monotone_against_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    lower, upper = np.sort(rng.normal(size=2))
    variances, weight = rng.uniform(0.02, 2, size=2), rng.uniform(0.05, 0.95)
    values = np.round(rng.normal(scale=2, size=n), 1)
    fit = split.Fit(values, (lower, upper), (variances[0], variances[1]), (weight, 1 - weight), False)
    raw = np.array([_posterior(float(value), fit) for value in values])
    found = split.monotone(values, raw, lower, upper)
    assert np.allclose(found, _monotone(values, raw, upper), atol=1e-12)
    assert (np.diff(found[np.argsort(values, kind="stable")]) >= 0).all()
    between = (values > lower) & (values < upper)
    assert np.allclose(found[between], raw[between], atol=1e-12)


def test_monotone_across_a_gap_at_the_upper_mean() -> None:
    values, posterior = np.array([0.0, 0.4, 5.0]), np.array([0.1, 0.99, 0.2])
    assert split.monotone(values, posterior, 0.0, 0.5).tolist() == [0.1, 0.99, 0.99]


@pytest.mark.parametrize(
    "values",
    [[0.3], [0.3] * 50, [0.2, 0.8], [0.2, 0.2, 0.8], [0.1] * 30 + [0.9] * 3, [0.1, 0.5, 0.9], [0.0] * 99 + [1.0]],
)
def test_degenerate_inputs(values: list[float]) -> None:
    similarities = np.array(values, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = split.fit(similarities)
    assert fit.posterior.shape == similarities.shape
    assert np.isfinite(fit.posterior).all()
    assert ((fit.posterior >= 0) & (fit.posterior <= 1)).all()
    assert np.isfinite([*fit.means, *fit.variances, *fit.weights]).all()
    assert (np.diff(fit.posterior[np.argsort(similarities, kind="stable")]) >= 0).all()
    assert fit.degenerate == (len(set(values)) == 1)


def test_a_constant_input_is_ranked_by_position() -> None:
    fit = split.fit(np.full(5, 0.25, dtype=np.float32))
    assert fit.posterior.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert fit.means == (0.25, 0.25)
    assert fit.variances == (0, 0)


def test_the_same_input_gives_the_same_fit() -> None:
    values = _mixture(500, 0.5, (0.0, 0.3), (0.1, 0.1), seed=5)
    assert np.array_equal(split.fit(values).posterior, split.fit(values.copy()).posterior)


@pytest.mark.parametrize("n", [1, 2, 9, 100])
@pytest.mark.parametrize("share", [0.0, 0.004, 0.1, 0.25, 0.5, 0.77, 1.0, 1.5])
def test_top_counts_and_takes_the_most_similar(n: int, share: float) -> None:
    values = np.round(np.random.default_rng(n).normal(size=n), 1).astype(np.float32)
    chosen = split.top(values, share)
    count = min(n, max(1, round(share * n)))
    ranking = sorted(range(n), key=lambda row: (-values[row], row))
    assert chosen.dtype == np.bool_
    assert np.flatnonzero(chosen).tolist() == sorted(ranking[:count])


def test_ties_in_the_order_of_the_pairs() -> None:
    values = np.array([0.1, 0.5, 0.5, 0.5, 0.9], dtype=np.float32)
    assert split.top(values, 0.6).tolist() == [False, True, True, False, True]
