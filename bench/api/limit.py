"""What a defense's telemetry must say for the defense to have engaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Limit:
    """A number of a defense's telemetry that is at least `low` and at most `high` where the defense engages.

    figure: its name in `Defense.telemetry`; at: the epoch that counts, the first or the last that has the number, or the mean
    over all that have it. A number that no epoch has is outside.
    what: what it is, in words that go before a value ("share of the pairs in the first safe set"); advice: what to change
    where it is outside. unit: "fraction" is shown in percent, "" as it is.
    """

    figure: str
    at: Literal["first", "last", "mean"]
    what: str
    advice: str
    low: float | None = None
    high: float | None = None
    unit: Literal["fraction", ""] = "fraction"
