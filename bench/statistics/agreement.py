"""How far two settings agree on the order of defenses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
Counts = NDArray[np.int64]
"""Hits and probes of each defense: (defenses, 2)."""


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of the orders of defenses in two settings, from -1 to 1, and its 95% interval over probes."""

    tau: float
    low: float
    high: float


def agreement(first: Counts, second: Counts, seed: int = 0) -> Agreement | None:
    """Compare the ASR of the same defenses in two settings, under one attack.

    The interval is a parametric bootstrap: hits are drawn from binomial distributions with the measured ASR. It covers other
    probes, not another training. Draws in which a setting has no order are left out.

    Parameters
    ----------
    first, second : int64 (defenses, 2)
        Hits and probes of each defense.

    Returns
    -------
    Agreement or None
        None if all defenses have the same ASR in one of the settings.
    """
    measured = float(_tau(_asr(first), _asr(second)))
    if np.isnan(measured):
        return None
    rng = np.random.default_rng(seed)
    drawn = _tau(_redrawn(first, rng), _redrawn(second, rng))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Agreement(measured, float(low), float(high))


def _asr(counts: Counts) -> NDArray[np.float64]:
    return counts[:, 0] / counts[:, 1]


def _redrawn(counts: Counts, rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = rng.binomial(counts[:, 1], _asr(counts), size=(RESAMPLES, len(counts)))
    return drawn / counts[:, 1]


def _tau(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tau-b of float64 (..., defenses): float64 (...), nan where all values of one are equal."""
    one, other = np.triu_indices(first.shape[-1], 1)
    orders = [np.sign(values[..., one] - values[..., other]) for values in (first, second)]
    untied = np.prod([np.abs(order).sum(axis=-1) for order in orders], axis=0)
    with np.errstate(invalid="ignore"):
        tau: NDArray[np.float64] = (orders[0] * orders[1]).sum(axis=-1) / np.sqrt(untied)
    return tau
