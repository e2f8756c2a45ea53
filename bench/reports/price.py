"""Price breakdown of a defense: how much of its effect is due to fewer steps, to fewer pairs, and to the method itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from bench.reports.labels import number
from bench.reports.measures import UTILITY
from bench.reports.notes import Note, Notes
from bench.reports.sections import Section
from bench.reports.stats import pooled_columns
from bench.reports.tables import ASR, Cell, asr_cell, asr_evaluators, attack_verdict, utility_cell, utility_columns

CONTROLS = {"control_steps": "same steps", "control_size": "same steps and pairs"}
"""The controls, in the order of decreasing training, and their names in tables."""
PARTS = ("fewer steps", "fewer pairs", "the method")
"""The causes of the differences between plain CLIP, the controls and the defense."""
LEAST = 0.0005
"""A smaller loss is shown as none."""


@dataclass(frozen=True)
class PriceRow:
    """One measure of one defended cell. cells: plain CLIP, the controls, and the defense."""

    attack: str
    defense: str
    measure: str
    metric: str
    effective: bool
    cells: tuple[Cell, ...]

    @property
    def parts(self) -> tuple[float, ...] | None:
        """The loss at each step from plain CLIP to the defense; None unless all were measured on the same seeds."""
        stats = [cell.stat for cell in self.cells]
        if any(stat is None for stat in stats) or len({stat.comparable for stat in stats if stat}) > 1:
            return None
        means = [stat.mean for stat in stats if stat]
        return tuple(before - after for before, after in pairwise(means))


@dataclass(frozen=True)
class PriceTable:
    rows: list[PriceRow]
    sentences: list[str]
    notes: list[Note]


def price_table(section: Section) -> PriceTable | None:
    """One row for each measure of each defended cell with controls; None if there is none."""
    notes, names = Notes(), asr_evaluators(section)
    rows = []
    for attack, defense in dict.fromkeys((attack, defense) for attack, defense, _ in section.controls):
        undefended = section.undefended(attack)
        controls = [section.controls.get((attack, defense, kind)) for kind in CONTROLS]
        groups = [undefended, *controls, section.group(attack, defense)]
        effective = attack != "none" and attack_verdict(section, attack, names, Notes()).state == "yes"
        if attack != "none":
            cells = tuple(asr_cell(group, names, notes) for group in groups)
            rows.append(PriceRow(attack, defense, ASR, ASR, effective, cells))
        for column in utility_columns(section):
            if column.sums_up:
                cells = tuple(utility_cell(section, group, column, notes) for group in groups)
                rows.append(PriceRow(attack, defense, column.evaluator, column.metric, effective, cells))
    return PriceTable(rows, list(_sentences(rows)), notes.all) if rows else None


def _sentences(rows: Sequence[PriceRow]) -> Iterator[str]:
    """One sentence for each defense: its loss of utility and of ASR under effective attacks, as means over the attacks."""
    for defense in dict.fromkeys(row.defense for row in rows):
        mine = [row for row in rows if row.defense == defense]
        measured = {row.measure for row in mine}
        utility = next((name for name in UTILITY if name in measured), "")
        lost = _mean_parts(row for row in mine if row.measure == utility)
        taken = _mean_parts(row for row in mine if row.measure == ASR and row.effective)
        parts = []
        if lost:
            parts.append(_part(f"{defense}'s", f"points lost in {utility}", f"{defense} loses nothing in {utility}", lost))
        if taken:
            parts.append(_part("the", f"points of ASR removed by {defense}", f"{defense} does not reduce the ASR", taken))
        if parts:
            sentence = "; ".join(parts)
            yield f"{sentence[0].upper()}{sentence[1:]}."


def _part(whose: str, what: str, none: str, parts: Sequence[float]) -> str:
    if sum(parts) < LEAST:
        return none
    steps, pairs, method = (f"to {name}" for name in PARTS)
    first, second, third = map(number, parts)
    return f"of {whose} {number(sum(parts))} {what}, {first} are due {steps}, {second} {pairs} and {third} {method}"


def _mean_parts(rows: Iterator[PriceRow]) -> tuple[float, ...] | None:
    found = [parts for row in rows if (parts := row.parts)]
    return tuple(fmean(values) for values in zip(*found, strict=True)) if found else None


def price_rows(section: Section) -> list[dict[str, Any]]:
    """The table for a CSV file: fractions, and the loss at each step from plain CLIP to the defense."""
    table = price_table(section)
    about = {"section": section.id, "data": section.data, "model": section.model, "setting": section.subtitle}
    return [about | _price_row(row) for row in table.rows] if table else []


def _price_row(row: PriceRow) -> dict[str, Any]:
    stats = [cell.stat for cell in row.cells]
    defended = stats[-1]
    found = {
        "attack": row.attack,
        "defense": row.defense,
        "measure": row.measure,
        "metric": row.metric,
        "seeds": len(defended.seeds) if defended else 0,
    }
    named: dict[str, Any] = {}
    for name, stat in zip(("clip", *CONTROLS, "defended"), stats, strict=True):
        named |= {name: stat.mean if stat else None, **pooled_columns(name, stat)}
    parts = row.parts or (None,) * len(PARTS)
    return found | named | {f"by {part}".replace(" ", "_"): value for part, value in zip(PARTS, parts, strict=True)}
