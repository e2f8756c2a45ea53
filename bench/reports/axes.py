"""Scales, ticks and coordinates of a drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Scale:
    """Values low..high at the places start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)

    def ticks(self, most: int, text: Callable[[float], str]) -> tuple[Tick, ...]:
        return tuple(Tick(self.at(value), text(value)) for value in round_numbers(self.low, self.high, most))


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten, in equal steps within low..high."""
    span = high - low
    if span <= 0:
        return [low]
    power = math.floor(math.log10(span / most))
    for factor in STEPS:
        step = factor * 10.0**power
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        if last - first < most:
            break
    return [round(count * step, 9) + 0.0 for count in range(first, last + 1)]


def place(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{round(value, 1) + 0.0:g}"


def line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{place(x)},{place(y)}" for x, y in points)


def signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def hundredths(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
