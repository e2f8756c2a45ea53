"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(values: Sequence[float]) -> list[float]:
    """Adjust the p values of a family by the step-down method of Holm, Scand. J. Statist. 6 (1979).

    Each result is the smallest family-wise error rate at which the hypothesis is rejected, in [0, 1], at the place of its
    p value.
    """
    sizes = np.asarray(values, dtype=np.float64)
    order = np.argsort(sizes, kind="stable")
    steps = np.arange(len(sizes), 0, -1) * sizes[order]
    adjusted = np.empty(len(sizes))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]
