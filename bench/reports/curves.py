"""Metrics that are curves: for each attack a panel a metric, of the lowest seed that has it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.matrix.schema import MetricRecord
from bench.reports.figures import BOTTOM, LEFT, RIGHT, TOP, Curve, Plot, Scale, Tick
from bench.reports.gallery import Panel
from bench.reports.labels import number
from bench.reports.records import Evaluation, Run
from bench.reports.sections import Group, Section

CURVE = "curve"
POISONS = "poisoned pairs"
"""The axis on which the attack's own number of poisons is drawn."""
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class AttackCurves:
    attack: str
    panels: list[Panel]


def curves_of(section: Section) -> list[AttackCurves]:
    """Every attack with a curve; defenses that have the same one share the panel of the first."""
    found = [AttackCurves(attack, list(_panels(section, attack))) for attack in section.attacks]
    return [curves for curves in found if curves.panels]


def _panels(section: Section, attack: str) -> Iterator[Panel]:
    seen: set[tuple[str, str, Points]] = set()
    for group in (group for (at, _), group in section.groups.items() if at == attack):
        drawn: set[tuple[str, str]] = set()
        for run in group.runs:
            for evaluation in run.evaluations:
                label = section.label(evaluation)
                for metric in evaluation.record.metrics if evaluation.record else ():
                    points = _points(evaluation, metric)
                    if points and (label, metric.name) not in drawn:
                        drawn.add((label, metric.name))
                        if (label, metric.name, points) not in seen:
                            seen.add((label, metric.name, points))
                            yield _panel(group, run, f"{label} {metric.name}", metric, points)


def _points(evaluation: Evaluation, metric: MetricRecord) -> Points:
    """Places on the axis and values, in order; tasks that are no numbers from 0 on are left out."""
    found = []
    for measured in evaluation.measurements if metric.role == CURVE else ():
        try:
            at = float(measured.task)
        except ValueError:
            continue
        if measured.metric == metric.name and measured.value is not None and 0 <= at < math.inf:
            found.append((at, float(measured.value)))
    return tuple(sorted(found))


def _panel(group: Group, run: Run, name: str, metric: MetricRecord, points: Points) -> Panel:
    poisons = run.record.poison.pairs if run.record and run.record.poison and metric.axis == POISONS else None
    shown = [f"{number(value, metric.unit)}% at {at:,.0f}" for at, value in points if at in (0, poisons)]
    drawing = _plot(points, metric.axis, poisons, f"{group.name}: {name} by {metric.axis}")
    return Panel(name, run.seed, f"run-{run.key}", f"{metric.description}: {', '.join(shown)} {metric.axis}.", drawing)


def _plot(points: Points, axis: str, poisons: int | None, title: str) -> Plot:
    """The axis is logarithmic from 1 on, and begins at 0."""
    x, y = Scale(0.0, math.log2(1 + points[-1][0]), LEFT, RIGHT), Scale(0.0, 1.0, BOTTOM, TOP)

    def across(at: float) -> float:
        return x.at(math.log2(1 + at))

    marked = [0, *(4**power for power in range(1 + int(math.log(max(points[-1][0], 1), 4))))]
    within = poisons is not None and poisons <= points[-1][0]
    return Plot(
        title=title,
        y_label="share",
        x_label=axis,
        x_ticks=tuple(Tick(across(at), f"{at:,}") for at in marked),
        y_ticks=y.ticks(5, lambda share: f"{share * 100:g}%"),
        bars=(),
        curves=(Curve("sum", tuple((across(at), y.at(value)) for at, value in points)),),
        cut=Tick(across(poisons), f"the attack's {poisons:,}") if within and poisons is not None else None,
    )
