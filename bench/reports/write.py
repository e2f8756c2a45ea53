"""Write the report to OUT/report: CSV files, index.html, LaTeX tables, figures, and files for suites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.disk import atomic_write
from bench.errors import UserError, did_you_mean
from bench.matrix.store import Store
from bench.reports.answer_latex import answer_tables
from bench.reports.comparisons import comparisons
from bench.reports.engagement import ENGAGEMENT
from bench.reports.frames import COLUMNS, as_csv, wide_frame
from bench.reports.latex import latex
from bench.reports.model_detection import detection_of
from bench.reports.page import render_page
from bench.reports.paper import PaperTable, paper_table
from bench.reports.paper_csv import paper_csv
from bench.reports.plots import figure_files
from bench.reports.price import price_rows
from bench.reports.ranking import rank_table
from bench.reports.records import Run, load_runs
from bench.reports.sections import sections_of
from bench.reports.stats import pooled_columns
from bench.reports.suite_variants import variants_of
from bench.reports.table_rows import section_rows
from bench.reports.tables import ASR, FLOOR, TRIGGERED

FIGURES = ("svg", "png", "pdf")
FORMATS = ("csv", "html", "latex", *FIGURES)
DEFAULT_FORMATS = ("csv", "html")


def write_report(store: Store, formats: Iterable[str] = DEFAULT_FORMATS, suites: Iterable[str] = ()) -> dict[str, Path]:
    """Write the report. The same records give the same bytes.

    Parameters
    ----------
    store : Store
        The results folder.
    formats : iterable of {"csv", "html", "latex", "svg", "png", "pdf"}
        What to write. Figures need matplotlib.
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
    sections = sections_of(runs)
    files: dict[str, str | bytes] = {}
    if "csv" in chosen:
        files["results.csv"] = results_csv(runs)
        files["table.csv"] = table_csv(runs)
        if rows := comparison_rows(runs):
            files["comparisons.csv"] = as_csv(rows, list(rows[0]))
        if ranks := rank_table(sections):
            files["ranks.csv"] = as_csv(ranks.as_dicts(), list(ranks.as_dicts()[0]))
        if any(run.beside for run in runs):
            files["price.csv"] = price_csv(runs)
        if detection := model_detection_csv(runs):
            files["model_detection.csv"] = detection
    if "html" in chosen:
        files["index.html"] = render_page(runs, papers, store.damaged.items())
    if "latex" in chosen and (answers := answer_tables(sections)):
        files["answer.tex"] = answers
    for ending in FIGURES:
        if ending in chosen:
            files |= figure_files(sections, ending)
    files |= suite_files(papers, chosen)
    paths = {}
    for name, text in files.items():
        paths[name] = store.root / "report" / name
        with atomic_write(paths[name]) as stream:
            stream.write(text.encode() if isinstance(text, str) else text)
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
    rows = [row for section in sections_of(runs) for row in section_rows(section)]
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
    """One row a defense, attack and score of models, see `bench.reports.model_detection`; empty if nothing gives one."""
    rows = [{"section": section.id, **vars(found)} for section in sections_of(runs) for found in detection_of(section)]
    return as_csv(rows, list(rows[0])) if rows else ""
