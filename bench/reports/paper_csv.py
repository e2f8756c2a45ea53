"""Paper tables as CSV: one line for each cell; fractions are not in percent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.reports.engagement import ENGAGEMENT
from bench.reports.frames import as_csv
from bench.reports.paper import PaperCell, PaperRow, PaperTable, scale
from bench.suites.parts import Column

COLUMNS = [
    "suite", "replacement", "options", "row", "group", "column", "paper_data", "attack", "defense", "model", "metric", "task",
    "unit", "better", "published", "measured", "difference", "std", "ci_low", "ci_high", "pooled_low", "pooled_high",
    "n_total", "n_least", "seeds", "seeds_asked", "best", "attack_effective", *ENGAGEMENT,
    "status", "reason",
]  # fmt: skip


def paper_csv(tables: Iterable[PaperTable]) -> str:
    """All variants of a suite. The engagement columns are omitted if no record has them."""
    lines = [line for table in tables for line in _lines(table)]
    columns = [name for name in COLUMNS if name not in ENGAGEMENT or any(line[name] for line in lines)]
    return as_csv(lines, columns)


def _lines(table: PaperTable) -> Iterable[dict[str, Any]]:
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if cell:
                yield {**_names(table, row, column), **_shown(cell), **_numbers(cell)}


def _names(table: PaperTable, row: PaperRow, column: Column) -> dict[str, Any]:
    variant = table.variant
    return {
        "suite": variant.suite.name,
        "replacement": variant.replacement,
        "options": " ".join(variant.options),
        "row": " / ".join(row.label),
        "group": column.group,
        "column": column.label,
    }


def _shown(cell: PaperCell) -> dict[str, Any]:
    condition, metric, task = cell.shows
    return {
        "paper_data": condition.data,
        "attack": condition.attack,
        "defense": condition.defense,
        "model": condition.model,
        "metric": metric,
        "task": task,
        "unit": cell.metric.unit,
        "better": cell.metric.better,
    }


def _numbers(cell: PaperCell) -> dict[str, Any]:
    stat, measured = cell.measured.stat, cell.measured
    alone = stat.points[0] if stat and len(stat.points) == 1 else None
    pooled = stat.pooled if stat and cell.metric.differs else None
    factor = scale(cell.metric.unit)
    return {
        "published": None if cell.published is None else round(cell.published / factor, 12),
        "measured": stat.mean if stat else None,
        "difference": None if cell.difference is None else round(cell.difference / factor, 12),
        "std": stat.std if stat else None,
        "ci_low": alone.low if alone else None,
        "ci_high": alone.high if alone else None,
        "pooled_low": pooled.low if pooled else None,
        "pooled_high": pooled.high if pooled else None,
        "n_total": pooled.n if pooled else None,
        "n_least": pooled.least if pooled else None,
        "seeds": len(stat.seeds) if stat else 0,
        "seeds_asked": measured.expected,
        "best": "yes" if measured.best else "",
        "attack_effective": cell.effective,
        **cell.engagement,
        "status": "done" if stat else measured.word,
        "reason": measured.reason,
    }
