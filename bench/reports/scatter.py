"""Defenses drawn by their worst ASR and their utility, in a box of 360 x 262 units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.reports.answer import Answer, Verdict
from bench.reports.figures import Scale, Tick, line
from bench.reports.labels import number

LEFT, RIGHT, TOP, BOTTOM = 40, 346, 16, 222
RADIUS = 5.0
"""Of plain CLIP's circle: areas are proportional to the time of training."""
APART = 13.0
"""Between the base lines of labels."""
WIDTH = 6.0
"""Of a letter of a label, about."""


@dataclass(frozen=True)
class Mark:
    """A defense's circle, and its label: `anchor` is the side of the text that lies at label_x."""

    name: str
    title: str
    x: float
    y: float
    radius: float
    front: bool
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Scatter:
    marks: tuple[Mark, ...]
    front: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    measure: str
    title: str


def scatter(answer: Answer) -> Scatter | None:
    """None where utility was not measured."""
    drawn = [(verdict, verdict.utility) for verdict in answer.verdicts if verdict.utility is not None]
    if not drawn:
        return None
    utilities = [utility for _, utility in drawn]
    low, high = math.floor(min(utilities) * 10) / 10, math.ceil(max(utilities) * 10) / 10
    x, y = Scale(0, 1, LEFT, RIGHT), Scale(max(0.0, low - 0.05), min(1.0, high), BOTTOM, TOP)
    marks = [_mark(verdict, x.at(verdict.worst.asr), y.at(utility)) for verdict, utility in drawn]
    front = sorted((mark.x, mark.y) for mark in marks if mark.front)
    return Scatter(
        marks=tuple(_spread(marks)),
        front=line(front),
        x_ticks=x.ticks(6, _percent),
        y_ticks=y.ticks(6, _percent),
        measure=answer.verdicts[0].measure,
        title="; ".join(mark.title for mark in marks),
    )


def _percent(value: float) -> str:
    return f"{100 * value:.3g}"


def _mark(verdict: Verdict, x: float, y: float) -> Mark:
    radius = RADIUS * math.sqrt(verdict.time or 1.0)
    title = f"{verdict.defense}: worst ASR {number(verdict.worst.asr)}%, {verdict.measure} {number(verdict.utility)}%"
    left = x + radius + 4 + WIDTH * len(verdict.defense) > RIGHT
    label_x = x - radius - 4 if left else x + radius + 4
    return Mark(verdict.defense, title, x, y, radius, verdict.front, label_x, y + 4, "end" if left else "start")


def _spread(marks: Sequence[Mark]) -> list[Mark]:
    """Labels that would lie over one another moved down."""
    placed: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: mark.y):
        while any(_overlap(mark, other) for other in placed):
            mark = replace(mark, label_y=mark.label_y + 1)
        placed.append(mark)
    return placed


def _overlap(one: Mark, other: Mark) -> bool:
    (start, end), (other_start, other_end) = _reach(one), _reach(other)
    return start < other_end and other_start < end and abs(one.label_y - other.label_y) < APART


def _reach(mark: Mark) -> tuple[float, float]:
    width = WIDTH * len(mark.name)
    return (mark.label_x - width, mark.label_x) if mark.anchor == "end" else (mark.label_x, mark.label_x + width)
