"""Whether a defense engaged: its declared limits, checked against the telemetry of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from bench.api import Limit


def engagement(limits: Sequence[Limit], curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each limit with the run's `value` (None if no epoch has one) and whether it is within the limit (`engaged`)."""
    return [asdict(limit) | _checked(limit, curves) for limit in limits]


def _checked(limit: Limit, curves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [float(curve[limit.figure]) for curve in curves if math.isfinite(curve.get(limit.figure, math.nan))]
    if not values:
        return {"value": None, "engaged": False}
    value = {"first": values[0], "last": values[-1], "mean": fmean(values)}[limit.at]
    low, high = (bound if bound is not None else none for bound, none in ((limit.low, -math.inf), (limit.high, math.inf)))
    return {"value": value, "engaged": low <= value <= high}
