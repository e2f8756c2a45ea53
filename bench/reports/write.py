"""Write the report to OUT/report: results.csv, table.csv, comparisons.csv, price.csv, index.html, and files for suites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.disk import atomic_write
from bench.errors import UserError, did_you_mean
from bench.matrix.store import Store
from bench.reports.comparisons import comparisons
from bench.reports.engagement import ENGAGEMENT, engagement_columns
from bench.reports.frames import COLUMNS, as_csv, wide_frame
from bench.reports.latex import latex
from bench.reports.model_detection import detection_of
from bench.reports.notes import Notes
from bench.reports.page import render_page
from bench.reports.paper import PaperTable, paper_table
from bench.reports.paper_csv import paper_csv
from bench.reports.price import price_rows
from bench.reports.records import Run, load_runs
from bench.reports.sections import Group, Section, sections_of
from bench.reports.stats import Stat, pooled_columns
from bench.reports.suite_variants import variants_of
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

FORMATS = ("csv", "html", "latex")
DEFAULT_FORMATS = ("csv", "html")


def write_report(store: Store, formats: Iterable[str] = DEFAULT_FORMATS, suites: Iterable[str] = ()) -> dict[str, Path]:
    """Write the report. The same records give the same bytes.

    Parameters
    ----------
    store : Store
        The results folder.
    formats : iterable of {"csv", "html", "latex"}
        What to write.
    suites : iterable of str
        The suites whose paper tables to write; by default those that were run.

    Returns
    -------
    dict of str to Path
        The files, by name.
    """
    chosen = list(formats)
    for name in chosen:
        if name not in FORMATS:
            raise UserError(f"--format {name}: unknown format; {did_you_mean(name, FORMATS)}")
    runs = load_runs(store)
    papers = paper_tables(store, runs, suites)
    files: dict[str, str] = {}
    if "csv" in chosen:
        files["results.csv"] = results_csv(runs)
        files["table.csv"] = table_csv(runs)
        if rows := comparison_rows(runs):
            files["comparisons.csv"] = as_csv(rows, list(rows[0]))
        if any(run.beside for run in runs):
            files["price.csv"] = price_csv(runs)
        if detection := model_detection_csv(runs):
            files["model_detection.csv"] = detection
    if "html" in chosen:
        files["index.html"] = render_page(runs, papers, store.damaged.items())
    files |= suite_files(papers, chosen)
    paths = {}
    for name, text in files.items():
        paths[name] = store.root / "report" / name
        with atomic_write(paths[name]) as stream:
            stream.write(text.encode())
    return paths


def paper_tables(store: Store, runs: list[Run], suites: Iterable[str] = ()) -> list[PaperTable]:
    """The paper tables of suites."""
    groups = [group for section in sections_of(runs) for group in section.shown]
    anchors = {run.key: group.anchor for group in groups for run in group.runs}
    by_key = {run.key: run for run in runs}
    return [paper_table(variant, by_key, anchors) for variant in variants_of(store.for_reports().requests(), suites)]


def suite_files(papers: Iterable[PaperTable], formats: Iterable[str]) -> dict[str, str]:
    """The content of the files for suites, by file name. All variants of a suite are in one file; figures have none."""
    writers = {"csv": ("csv", paper_csv), "latex": ("tex", latex)}
    by_suite: dict[str, list[PaperTable]] = defaultdict(list)
    for table in papers:
        if table.rows:
            by_suite[table.variant.suite.name].append(table)
    return {
        f"{name}.{ending}": write(tables)
        for name, tables in by_suite.items()
        for ending, write in (writers[each] for each in formats if each in writers)
    }


def results_csv(runs: list[Run]) -> str:
    """All measurements, with floats in full precision."""
    return wide_frame(runs).to_csv(columns=COLUMNS, index=False, lineterminator="\n")


def table_csv(runs: list[Run]) -> str:
    """One row for each section, attack and defense: means over seeds, as fractions."""
    rows = [row for section in sections_of(runs) for row in _section_rows(section)]
    fixed = [
        "section", "data", "model", "setting", "attack", "attack_rate", "defense", "seeds", "seeds_asked", "status",
        "reason", "attack_effective", *(name for name in ENGAGEMENT if any(row[name] for row in rows)),
        ASR, f"{ASR}_std", f"{ASR}_ci_low", f"{ASR}_ci_high", *pooled_columns(ASR, None),
        FLOOR, *pooled_columns(FLOOR, None), TRIGGERED, *pooled_columns(TRIGGERED, None),
    ]  # fmt: skip
    measured = sorted({name for row in rows for name in row} - {*fixed, *ENGAGEMENT})
    return as_csv(rows, fixed + measured)


def comparison_rows(runs: list[Run]) -> list[dict[str, Any]]:
    """Paired differences as fractions, a row each: see `bench.reports.comparisons`."""
    return [
        {"section": section.id, "data": section.data, "model": section.model, "setting": section.subtitle, **row.as_dict()}
        for section in sections_of(runs)
        for row in comparisons(section)
    ]


def price_csv(runs: list[Run]) -> str:
    """One row for each measure of each defended cell with controls; see `bench.reports.price`."""
    rows = [row for section in sections_of(runs) for row in price_rows(section)]
    return as_csv(rows, list(rows[0]) if rows else [])


def model_detection_csv(runs: list[Run]) -> str:
    """One row a defense, attack and score of models, see `bench.reports.model_detection`; empty where nothing gives one."""
    rows = [{"section": section.id, **vars(found)} for section in sections_of(runs) for found in detection_of(section)]
    return as_csv(rows, list(rows[0])) if rows else ""


def _section_rows(section: Section) -> list[dict[str, Any]]:
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
