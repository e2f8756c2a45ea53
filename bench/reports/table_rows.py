"""Rows of table.csv."""

from __future__ import annotations

from typing import Any

from bench.reports.engagement import engagement_columns
from bench.reports.notes import Notes
from bench.reports.sections import Group, Section
from bench.reports.stats import Stat, pooled_columns
from bench.reports.tables import (
    ASR,
    FLOOR,
    TRIGGERED,
    Column,
    asr_evaluators,
    attack_verdict,
    stat_of,
    utility_columns,
    utility_table,
)


def section_rows(section: Section) -> list[dict[str, Any]]:
    """One row for each attack and defense: means over seeds, as fractions."""
    names, columns = asr_evaluators(section), utility_columns(section)
    effective = {attack: attack_verdict(section, attack, names, Notes()).state for attack in section.attacks}
    utility = utility_table(section)
    cells = {(row.attack, row.defense): row.cells for row in utility.rows} if utility else {}
    rows = []
    for key, group in section.groups.items():
        verdict = effective[group.attack] if group.attack != "none" else ""
        verdicts = {"attack_effective": verdict, **engagement_columns(group.runs)}
        row = _identity(section, group) | verdicts | _attack_numbers(group, names)
        for column, cell in zip(columns, cells[key] if columns else (), strict=True):
            row |= _mean_columns(column, cell.stat)
        rows.append(row)
    return rows


def _identity(section: Section, group: Group) -> dict[str, Any]:
    statuses = {run.status for run in group.runs}
    worst = next(status for status in ("failed", "missing", "done", "unsupported") if status in statuses)
    reasons = {e.reason for run in group.runs for e in run.evaluations if e.status == worst and e.reason}
    return {
        "section": section.id,
        "data": section.data,
        "model": section.model,
        "setting": section.subtitle,
        "attack": group.attack,
        "attack_rate": group.rate,
        "defense": group.defense,
        "seeds": sum(run.status == "done" for run in group.runs),
        "seeds_asked": len(group.runs),
        "status": worst,
        "reason": "; ".join(sorted(reasons)),
    }


def _attack_numbers(group: Group, names: set[str]) -> dict[str, Any]:
    asr = stat_of(group, names, ASR)
    row: dict[str, Any] = {}
    for metric in (FLOOR, TRIGGERED):
        stat = stat_of(group, names, metric)
        row |= {metric: stat.mean if stat else None, **pooled_columns(metric, stat)}
    if asr:
        alone = asr.points[0] if len(asr.points) == 1 else None
        row |= {ASR: asr.mean, f"{ASR}_std": asr.std, **pooled_columns(ASR, asr)}
        row |= {f"{ASR}_ci_low": alone.low, f"{ASR}_ci_high": alone.high} if alone else {}
    return row


def _mean_columns(column: Column, stat: Stat | None) -> dict[str, Any]:
    """The CSV columns of a utility column that summarises its evaluator; none for others."""
    if not column.sums_up:
        return {}
    name = f"{column.evaluator}.{column.metric}"
    return {name: stat.mean if stat else None, f"{name}_std": stat.std if stat else None, **pooled_columns(name, stat)}
