"""Confidence intervals."""

from __future__ import annotations

import math


def wilson(share: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95% Wilson score interval, within [0, 1], of a proportion of n > 0. Wilson, JASA 22 (1927)."""
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
