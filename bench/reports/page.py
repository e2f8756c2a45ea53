"""The report as one self-contained HTML page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from bench.reports import labels
from bench.reports.axes import place
from bench.reports.command import command_of, foreign_plugins
from bench.reports.curve import Curve, curve_of, telemetry_of
from bench.reports.engagement import bounds, limits_of, value_of
from bench.reports.gallery import AttackFigures, figures_of
from bench.reports.paper import PaperTable, labels_of
from bench.reports.price import CONTROLS, PriceTable, price_table
from bench.reports.records import STATUSES, Run
from bench.reports.sections import Section, sections_of
from bench.reports.tables import AsrTable, Column, UtilityTable, asr_table, utility_table
from bench.suites.library import load, names

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class SectionView:
    section: Section
    asr: AsrTable | None
    utility: UtilityTable | None
    price: PriceTable | None
    figures: list[AttackFigures]


@dataclass(frozen=True)
class PaperView:
    """A paper table, or for a figure the sections that draw it; `label` says of which paper where there are several."""

    table: PaperTable
    drawn_in: list[Section]
    label: str


@dataclass(frozen=True)
class RunView:
    """What the page says about one run."""

    run: Run
    curve: Curve | None
    telemetry: list[tuple[str, str, str]]
    command: list[str]
    foreign: list[str]
    spec: list[tuple[str, str]]
    provenance: list[tuple[str, str]]

    @property
    def record(self) -> dict[str, Any]:
        return self.run.record or {}


def render_page(runs: Sequence[Run], papers: Sequence[PaperTable] = (), damaged: Mapping[str, str] | None = None) -> str:
    """`damaged`: the records that could not be read, and why."""
    cited = list(dict.fromkeys(table.edition.suite.paper for table in papers))
    sections = [SectionView(s, asr_table(s), utility_table(s), price_table(s), figures_of(s)) for s in sections_of(runs)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            papers=[
                PaperView(table, _drawn_in(table, sections), label)
                for table, label in zip(papers, labels_of(papers), strict=True)
            ],
            cited=cited,
            follows={suite.draws: suite.reference for suite in map(load, names()) if suite.draws},
            view=view_of,
            lead=lead_of(runs),
            statuses=STATUSES,
            controls=[*CONTROLS.values()],
            damaged=sorted((damaged or {}).items()),
            limited=any(limits_of(run) for run in runs),
        )
    )


@cache
def _environment() -> jinja2.Environment:
    """Compiled once in a process."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": labels.number,
        "duration": labels.duration,
        "plain": labels.plain,
        "header": header_groups,
        "pretty": pretty,
        "coded": coded,
        "place": place,
        "limits": limits_of,
        "bounds": bounds,
        "limited": value_of,
    }
    return environment


def _drawn_in(table: PaperTable, sections: Sequence[SectionView]) -> list[Section]:
    keys = {key for runs in table.edition.runs.values() for key in runs}
    return [item.section for item in sections if item.figures and keys & {run.key for run in item.section.runs}]


def lead_of(runs: Sequence[Run]) -> dict[str, Any]:
    """What was run, in numbers and names."""
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


def view_of(run: Run) -> RunView:
    record = run.record or {}
    provenance = {"run key": run.key, **(record.get("provenance") or {})}
    spec = labels.flatten({key: value for key, value in run.spec.items() if value is not None})
    return RunView(
        run=run,
        curve=curve_of(record.get("curves") or []),
        telemetry=telemetry_of(record.get("curves") or []),
        command=command_of(run),
        foreign=foreign_plugins(run),
        spec=[(key, labels.plain(value)) for key, value in spec.items() if value not in (None, {})],
        provenance=[(key, labels.plain(value)) for key, value in labels.flatten(provenance).items()],
    )


def header_groups(columns: Sequence[Column]) -> list[tuple[Column, int]]:
    """Neighbouring columns of one evaluator and metric, with their number."""
    groups: list[tuple[Column, int]] = []
    for column in columns:
        last = groups[-1] if groups else None
        if last and (last[0].evaluator, last[0].metric) == (column.evaluator, column.metric):
            groups[-1] = last[0], last[1] + 1
        else:
            groups.append((column, 1))
    return groups


def pretty(value: float | None, unit: str) -> str:
    """A value with its unit."""
    text = labels.number(value, unit)
    if value is None:
        return text
    return f"{text}%" if unit == "fraction" else f"{text} {unit}".strip()


def coded(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))
