"""Engagement limits on a defense's telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Limit:
    """The range of a telemetry number within which a defense is considered engaged.

    Attributes
    ----------
    figure : str
        Its name in `Defense.telemetry`. A number that no epoch has is outside the range.
    at : {"first", "last", "mean"}
        The first or last epoch that has the number, or the mean over all that have it.
    what : str
        A description, followed by the value in reports ("share of the pairs in the first safe set").
    advice : str
        What to change if it is out of range.
    low, high : float, optional
        The range, inclusive.
    unit : {"fraction", ""}
        A fraction is shown in percent.
    """

    figure: str
    at: Literal["first", "last", "mean"]
    what: str
    advice: str
    low: float | None = None
    high: float | None = None
    unit: Literal["fraction", ""] = "fraction"
