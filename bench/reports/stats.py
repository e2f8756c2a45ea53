"""A value of one run, and statistics over the seeds of a cell."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import intervals
from bench.matrix.schema import MeasurementRecord
from bench.reports.labels import number
from bench.reports.records import Evaluation

OVERALL = ("all", "overall", "mean")
"""Task names under which an evaluator reports its total."""


@dataclass(frozen=True)
class Point:
    """A value of one run, with its 95% interval; `identity` is the evaluator with its version and parameters."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = "fraction"
    better: str = "neither"
    identity: str = ""

    @property
    def hits(self) -> int | None:
        """The number of hits out of n; None if the value is not a proportion, such as a mean over classes or tasks."""
        if self.unit != "fraction" or not self.n or not 0 <= self.value <= 1:
            return None
        count = self.value * self.n
        return round(count) if abs(count - round(count)) < 1e-6 else None


@dataclass(frozen=True)
class Pooled:
    """95% Wilson interval of the counts pooled over all seeds; `sizes` is the n of each seed."""

    low: float
    high: float
    sizes: tuple[int, ...]

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def least(self) -> int:
        return min(self.sizes)

    @property
    def size(self) -> str:
        """The n of a seed, or ≥ the smallest if they differ."""
        return f"n={self.least}" if self.least == max(self.sizes) else f"n≥{self.least}"

    @property
    def title(self) -> str:
        return f"95% Wilson interval of the counts pooled over all seeds: {' + '.join(map(str, self.sizes))} = {self.n}"


@dataclass(frozen=True)
class Stat:
    """The values of a cell, one for each seed."""

    seeds: tuple[int, ...]
    points: tuple[Point, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(point.value for point in self.points)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None for one seed."""
        return statistics.stdev(point.value for point in self.points) if len(self.points) > 1 else None

    @property
    def unit(self) -> str:
        return self.points[0].unit

    @property
    def text(self) -> str:
        return number(self.mean, self.unit)

    @property
    def spread(self) -> str:
        """± standard deviation over seeds, or the 95% interval of a single seed."""
        if self.std is not None:
            return f"± {number(self.std, self.unit)}"
        point = self.points[0]
        if point.low is None or point.high is None:
            return ""
        return f"[{number(point.low, self.unit)}, {number(point.high, self.unit)}]"

    @property
    def pooled(self) -> Pooled | None:
        """The pooled counts; None unless every value is a proportion of images or pairs."""
        hits = [point.hits for point in self.points]
        if None in hits:
            return None
        sizes = tuple(point.n or 0 for point in self.points)
        return Pooled(*wilson(sum(filter(None, hits)) / sum(sizes), sum(sizes)), sizes)

    @property
    def interval(self) -> str:
        """The pooled interval with n, for several seeds; empty for one seed, whose spread is its interval."""
        if self.std is None or not (pooled := self.pooled):
            return ""
        return f"[{number(pooled.low, self.unit)}, {number(pooled.high, self.unit)}] {pooled.size}"

    @property
    def comparable(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Seeds and evaluators; means are comparable if they agree in both."""
        return self.seeds, tuple(sorted({point.identity for point in self.points}))


def point_of(evaluation: Evaluation, metric: str, task: str) -> Point | None:
    """One measurement; None if it is missing or has no value."""
    found = [m for m in evaluation.measurements if (m.metric, m.task) == (metric, task)]
    return _measured(evaluation, found[0]) if found else None


def pooled(evaluation: Evaluation, metric: str) -> Point | None:
    """The evaluator's own total, else the proportion over the images of all its tasks, with a Wilson interval."""
    found = [m for m in evaluation.measurements if m.metric == metric and m.value is not None]
    totals = [m for m in found if m.task in OVERALL]
    if totals or len(found) == 1:
        return _measured(evaluation, (totals or found)[0])
    count = sum(m.n or 0 for m in found)
    if not count:
        return None
    share = math.fsum(m.value * (m.n or 0) for m in found if m.value is not None) / count
    low, high = wilson(share, count) if 0 <= share <= 1 else (None, None)
    return replace(_point(evaluation, metric, share), n=count, low=low, high=high)


def task_mean(evaluation: Evaluation, metric: str, tasks: Sequence[str]) -> Point | None:
    """The mean over all `tasks`; None unless every one has a value."""
    points = [point_of(evaluation, metric, task) for task in tasks]
    values = [point.value for point in points if point]
    if not values or len(values) < len(tasks):
        return None
    return _point(evaluation, metric, statistics.fmean(values))


def _measured(evaluation: Evaluation, found: MeasurementRecord) -> Point | None:
    if found.value is None:
        return None
    return replace(_point(evaluation, found.metric, found.value), n=found.n, low=found.ci_low, high=found.ci_high)


def _point(evaluation: Evaluation, metric: str, value: float) -> Point:
    declared = evaluation.metric(metric)
    return Point(float(value), unit=declared.unit, better=declared.better, identity=evaluation.identity)


def wilson(share: float, n: int) -> tuple[float, float]:
    """95% Wilson score interval of a proportion, extended to contain it exactly."""
    low, high = intervals.wilson(share, n)
    return min(share, low), max(share, high)


def best_of(stats: Sequence[Stat | None], better: str, decimals: int = 3) -> set[int]:
    """Indices of the best of the largest set of comparable means; empty if there is nothing to compare.

    Means are compared after rounding to `decimals`.
    """
    if better not in ("lower", "higher"):
        return set()
    alike: dict[object, list[int]] = defaultdict(list)
    for position, stat in enumerate(stats):
        if stat is not None:
            alike[stat.comparable].append(position)
    if not alike:
        return set()
    group = max(alike.values(), key=lambda positions: (len(stats[positions[0]].seeds), len(positions)))  # type: ignore[union-attr]
    if len(group) < 2:
        return set()
    shown = {position: round(stat.mean, decimals) for position in group if (stat := stats[position])}
    target = min(shown.values()) if better == "lower" else max(shown.values())
    return {position for position, value in shown.items() if value == target}


def pooled_columns(name: str, stat: Stat | None) -> dict[str, Any]:
    """CSV columns for the interval of the pooled counts and its n; empty unless the value is a proportion."""
    pooled = stat.pooled if stat else None
    values = (pooled.low, pooled.high, pooled.n, pooled.least) if pooled else (None,) * 4
    return dict(zip([f"{name}_{part}" for part in ("pooled_low", "pooled_high", "n_total", "n_least")], values, strict=True))
