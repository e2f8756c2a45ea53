"""Figures of similarities as shapes in a box 320 units wide: heat map, fitted mixture and overlaid histograms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.matrix.schema import Examples
from bench.reports.similarities import BINS, Component, Distribution, Split

CELL, MAP_LEFT, MAP_TOP = 30, 104, 4
LETTERS = 12
"""Largest number of characters of a label of the heat map."""
LEFT, RIGHT, TOP, BOTTOM = 46, 308, 20, 132
REACH, STEP = 4.0, 0.25
"""A component is drawn up to REACH standard deviations from its mean, in steps of STEP."""


@dataclass(frozen=True)
class Scale:
    """A linear axis: values low..high at coordinates start..end."""

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
    """At most `most` equidistant tick values within low..high, with steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    power = math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        step = factor * 10.0**power
        first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
        if last - first < most:
            break
    return [round(count * step, 9) + 0.0 for count in range(first, last + 1)]


def coordinate(value: float) -> str:
    """A coordinate of an SVG, rounded to a tenth."""
    return f"{round(value, 1) + 0.0:g}"


def line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)


def signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def hundredths(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


@dataclass(frozen=True)
class Cell:
    """A cell of the heat map; `strength` is the intensity of its colour in [0, 1]."""

    x: int
    y: int
    strength: str
    title: str
    poison: bool


@dataclass(frozen=True)
class Name:
    """A label of a row and a column."""

    at: int
    text: str
    poison: bool


@dataclass(frozen=True)
class HeatMap:
    title: str
    names: tuple[Name, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Curve:
    """A density; `kind` is sum, lower or upper."""

    kind: str
    points: tuple[tuple[float, float], ...]

    @property
    def line(self) -> str:
        return line(self.points)


@dataclass(frozen=True)
class Plot:
    """A histogram as filled bars, overlaid by another one as an outline, or by density curves and a threshold."""

    title: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    outline: tuple[tuple[float, float], ...] = ()
    curves: tuple[Curve, ...] = ()
    cut: Tick | None = None
    x_label: str = "cosine similarity"

    @property
    def bars_path(self) -> str:
        bottom = coordinate(BOTTOM)
        return "".join(
            f"M{coordinate(bar.x)} {bottom}V{coordinate(bar.y)}H{coordinate(bar.x + bar.width)}V{bottom}z" for bar in self.bars
        )

    @property
    def outline_line(self) -> str:
        return line(self.outline)


def heat_map(examples: Examples, low: float, high: float, title: str) -> HeatMap:
    """A heat map whose colours range from `low` to `high`."""
    strength = Scale(low, high, 0.0, 1.0)
    poison = examples.poison
    names = [Name(at * CELL, shortened(label), at == poison) for at, label in enumerate(examples.labels)]
    cells = [
        Cell(
            x=MAP_LEFT + column * CELL,
            y=MAP_TOP + row * CELL,
            strength=f"{strength.at(value):.2f}",
            title=f"{examples.labels[row]} × {examples.labels[column]}: {hundredths(value)}",
            poison=row == column == poison,
        )
        for row, values in enumerate(examples.values)
        for column, value in enumerate(values)
    ]
    return HeatMap(title, tuple(names), tuple(cells))


def shortened(label: str) -> str:
    """A label of at most LETTERS characters; a number at its end, which distinguishes pairs of a class, is kept."""
    if len(label) <= LETTERS:
        return label
    _, _, end = label.rpartition(" ")
    tail = f" {end}" if end.isdigit() and len(end) < LETTERS // 2 else ""
    return f"{label[: LETTERS - 1 - len(tail)].rstrip()}…{tail}"


def extent(histograms: Iterable[Sequence[int]]) -> tuple[int, int]:
    """The first bin that is not empty in all of the histograms, and the one after the last."""
    filled = [at for counts in histograms for at, count in enumerate(counts) if count]
    return min(filled), max(filled) + 1


def edge(position: int) -> float:
    """The lower edge of a bin."""
    return 2 * position / BINS - 1


def overlap_plot(distribution: Distribution, bins: tuple[int, int], title: str) -> Plot:
    """Overlaid histograms of clean and poisoned pairs, each normalised to its number of pairs."""
    clean, poison = _shares(distribution.clean), _shares(distribution.poison)
    x, y = _scales(bins, max(*clean, *poison))
    return Plot(
        title=title,
        y_label="share of pairs",
        x_ticks=x.ticks(6, signed),
        y_ticks=y.ticks(4, lambda share: f"{share * 100:g}%"),
        bars=_bars(clean, bins, x, y),
        outline=_outline(poison, bins, x, y),
    )


def mixture_plot(split: Split, bins: tuple[int, int], title: str) -> Plot:
    """The histogram of all pairs with the fitted mixture; curves are cut off at twice the tallest bar."""
    counts = split.distribution.all
    tallest, scale = max(counts), sum(counts) * 2 / BINS
    peak = max((mixture_density(c.mean, split.components) for c in split.components), default=0.0) * scale
    x, y = _scales(bins, max(tallest, min(peak, 2 * tallest)))
    return Plot(
        title=title,
        y_label="pairs",
        x_ticks=x.ticks(6, signed),
        y_ticks=y.ticks(4, lambda count: f"{count:,.0f}"),
        bars=_bars(counts, bins, x, y),
        curves=_curves(split.components, scale, x, y),
        cut=Tick(x.at(split.cut), f"safe from {hundredths(split.cut)}") if x.low <= split.cut <= x.high else None,
    )


def mixture_density(value: float, components: Iterable[Component]) -> float:
    return math.fsum(
        c.weight * math.exp(-0.5 * ((value - c.mean) / c.std) ** 2) / (c.std * math.sqrt(2 * math.pi)) for c in components
    )


def _curves(components: Sequence[Component], scale: float, x: Scale, y: Scale) -> tuple[Curve, ...]:
    if not components:
        return ()
    lower, upper = components
    return tuple(
        Curve(kind, tuple((x.at(at), y.at(scale * mixture_density(at, chosen))) for at in _knots(chosen, x)))
        for kind, chosen in (("sum", components), ("lower", [lower]), ("upper", [upper]))
    )


def _knots(components: Sequence[Component], x: Scale) -> list[float]:
    """The points where a curve is computed: denser where a component is narrow, and within the axis."""
    steps = round(REACH / STEP)
    knots = (c.mean + c.std * STEP * count for c in components for count in range(-steps, steps + 1))
    return sorted({min(max(knot, x.low), x.high) for knot in knots})


def _scales(bins: tuple[int, int], top: float) -> tuple[Scale, Scale]:
    return Scale(edge(bins[0]), edge(bins[1]), LEFT, RIGHT), Scale(0.0, top, BOTTOM, TOP)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total for count in counts]


def _bars(heights: Sequence[float], bins: tuple[int, int], x: Scale, y: Scale) -> tuple[Bar, ...]:
    width = x.at(edge(1)) - x.at(edge(0))
    return tuple(
        Bar(x.at(edge(at)), y.at(heights[at]), width, BOTTOM - y.at(heights[at])) for at in range(*bins) if heights[at]
    )


def _outline(heights: Sequence[float], bins: tuple[int, int], x: Scale, y: Scale) -> tuple[tuple[float, float], ...]:
    """The outline of a histogram, from its first to its last bin that is not empty."""
    first, last = extent([[int(height > 0) for height in heights]])
    corners = [(edge(at + side), heights[at]) for at in range(first, last) for side in (0, 1)]
    closed = [(edge(first), 0.0), *corners, (edge(last), 0.0)]
    return tuple((x.at(at), y.at(height)) for at, height in closed)
