"""The report as one self-contained HTML page."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bench.matrix.schema import CurvePoint
from bench.reports import labels
from bench.reports.answer import Answer, answer
from bench.reports.command import command_of, foreign_plugins
from bench.reports.comparisons import Comparison, comparisons
from bench.reports.curves import AttackCurves, curves_of
from bench.reports.engagement import bounds, limits_of, value_of
from bench.reports.figures import Scale, coordinate
from bench.reports.gallery import AttackFigures, figures_of
from bench.reports.model_detection import ModelDetection, detection_of
from bench.reports.paper import PaperTable, labels_of
from bench.reports.price import CONTROLS, PriceTable, price_table
from bench.reports.ranking import rank_table
from bench.reports.records import STATUSES, Run
from bench.reports.scatter import Scatter, scatter
from bench.reports.sections import Section, sections_of
from bench.reports.tables import AsrTable, Column, UtilityTable, asr_table, utility_table
from bench.suites.library import load, names

TEMPLATES = Path(__file__).parent / "templates"


LEFT, RIGHT, TOP, BOTTOM = 40, 312, 10, 98
"""The axes of the loss curve, in a figure of 320 x 120 units."""


@dataclass(frozen=True)
class Curve:
    """The loss by epoch as a polyline."""

    points: list[tuple[float, float]]
    low: str
    high: str
    first: str
    last: str
    title: str

    @property
    def line(self) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True)
class SectionView:
    section: Section
    asr: AsrTable | None
    utility: UtilityTable | None
    price: PriceTable | None
    answer: Answer | None
    scatter: Scatter | None
    comparisons: list[Comparison]
    detection: list[ModelDetection]
    curves: list[AttackCurves]
    figures: list[AttackFigures]


@dataclass(frozen=True)
class PaperView:
    """A paper table, or for a figure the sections that draw it; `label` names the paper if there are several."""

    table: PaperTable
    drawn_in: list[Section]
    label: str


def render_page(runs: Sequence[Run], papers: Sequence[PaperTable] = (), damaged: Iterable[tuple[str, str]] = ()) -> str:
    """Render the report. `damaged` are the records that could not be read, with the reasons."""
    cited = list(dict.fromkeys(table.variant.suite.paper for table in papers))
    known = sections_of(runs)
    sections = [_view(section) for section in known]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            ranks=rank_table(known),
            papers=[
                PaperView(table, _drawn_in(table, sections), label)
                for table, label in zip(papers, labels_of(papers), strict=True)
            ],
            cited=cited,
            follows={suite.draws: suite.reference for suite in map(load, names()) if suite.draws},
            lead=lead_of(runs),
            statuses=STATUSES,
            controls=[*CONTROLS.values()],
            damaged=sorted(damaged),
            limited=any(limits_of(run) for run in runs),
        )
    )


def _view(section: Section) -> SectionView:
    found = answer(section)
    return SectionView(
        section=section,
        asr=asr_table(section),
        utility=utility_table(section),
        price=price_table(section),
        answer=found,
        scatter=scatter(found) if found else None,
        comparisons=comparisons(section),
        detection=detection_of(section),
        curves=curves_of(section),
        figures=figures_of(section),
    )


@cache
def environment(*folders: Path) -> jinja2.Environment:
    """The Jinja environment, created once, with templates in `folders` beside those of reports."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "number": labels.number,
        "probability": labels.probability,
        "duration": labels.duration,
        "plain": labels.plain,
        "header": header_groups,
        "pretty": pretty,
        "coded": coded,
        "coordinate": coordinate,
        "curve": curve_of,
        "telemetry": telemetry_of,
        "command": command_of,
        "foreign": foreign_plugins,
        "spec": spec_of,
        "provenance": provenance_of,
        "limits": limits_of,
        "bounds": bounds,
        "limited": value_of,
    }
    return made


def _drawn_in(table: PaperTable, sections: Sequence[SectionView]) -> list[Section]:
    keys = {key for runs in table.variant.runs.values() for key in runs}
    return [item.section for item in sections if item.figures and keys & {run.key for run in item.section.runs}]


def lead_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Summary of the runs for the lead paragraph."""
    counts = Counter(run.status for run in runs)
    return {
        "cells": len(runs),
        "counts": [(status, counts[status]) for status in STATUSES if counts[status]],
        "data": sorted({run.data for run in runs}),
        "models": sorted({run.model for run in runs}),
        "attacks": sorted({run.attack for run in runs} - {"none"}),
        "defenses": sorted({run.defense for run in runs if not run.beside}),
        "seeds": labels.ranges(run.seed for run in runs),
    }


def spec_of(run: Run) -> list[tuple[str, str]]:
    flat = labels.flatten(run.spec.dump())
    return [(key, labels.plain(value)) for key, value in sorted(flat.items()) if value not in (None, {})]


def provenance_of(run: Run) -> list[tuple[str, str]]:
    flat = labels.flatten({"run key": run.key, **(run.record.provenance.dump() if run.record else {})})
    return [(key, labels.plain(value)) for key, value in flat.items()]


def curve_of(curves: Sequence[CurvePoint]) -> Curve | None:
    """The training loss by epoch; None if there is none."""
    found = [(point.epoch, point.loss) for point in curves if point.epoch is not None and point.loss is not None]
    if not found:
        return None
    epochs, losses = [epoch for epoch, _ in found], [loss for _, loss in found]
    x, y = Scale(min(epochs), max(epochs), LEFT, RIGHT), Scale(min(losses), max(losses), BOTTOM, TOP)
    title = f"Training loss from {losses[0]:.3g} (epoch {epochs[0]}) to {losses[-1]:.3g} (epoch {epochs[-1]})"
    ends = f"{min(losses):.3g}", f"{max(losses):.3g}", str(epochs[0]), str(epochs[-1])
    return Curve([(x.at(epoch), y.at(loss)) for epoch, loss in found], *ends, title)


def telemetry_of(curves: Sequence[CurvePoint]) -> list[tuple[str, str, str]]:
    """Name, first and last value of every other number by epoch, except timing and histograms, which are shown elsewhere."""
    values: dict[str, list[object]] = defaultdict(list)
    for point in curves:
        for name, value in point.dump().items():
            if value is not None and not isinstance(value, list):
                values[name].append(value)
    shown = sorted(values.keys() - {"epoch", "loss", "seconds", "pairs_per_second"})
    return [(name, _short(values[name][0]), _short(values[name][-1])) for name in shown]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else labels.plain(value)


def header_groups(columns: Sequence[Column]) -> list[tuple[Column, int]]:
    """Adjacent columns of one evaluator and metric: the first one and their number."""
    groups = [list(group) for _, group in groupby(columns, lambda column: (column.evaluator, column.metric))]
    return [(group[0], len(group)) for group in groups]


def pretty(value: float | None, unit: str) -> str:
    """A value with its unit."""
    text = labels.number(value, unit)
    if value is None:
        return text
    return f"{text}%" if unit == "fraction" else f"{text} {unit}".strip()


def coded(text: str) -> Markup:
    """Escape a text, with text between backticks as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))
