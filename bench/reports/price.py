"""What the price of a defense is made of: plain CLIP beside plain CLIP with as many steps, and with as many pairs too."""

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
from bench.reports.tables import ASR, Cell, asr_cell, asr_evaluators, attack_took, utility_cell, utility_columns

CONTROLS = {"control_steps": "same steps", "control_size": "same steps and pairs"}
"""The controls, each of which trains less than the one before, and how a table names them."""
PARTS = ("fewer steps", "fewer pairs", "the method")
"""What lies between plain CLIP, the controls and the defense."""
LEAST = 0.0005
"""A loss below it is shown as none."""


@dataclass(frozen=True)
class PriceRow:
    """One measure of one defended cell; cells: of plain CLIP, of the controls, and of the defense."""

    attack: str
    defense: str
    measure: str
    metric: str
    took: bool
    cells: tuple[Cell, ...]

    @property
    def parts(self) -> tuple[float, ...] | None:
        """What each step from plain CLIP to the defense takes away; None where not all were measured on the same seeds."""
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
    """Rows: each defended cell that has controls, by measure. None where there is none."""
    notes, names = Notes(), asr_evaluators(section)
    rows = []
    for attack, defense in dict.fromkeys((attack, defense) for attack, defense, _ in section.controls):
        undefended = next((group for (at, _), group in section.groups.items() if at == attack and group.undefended), None)
        controls = [section.controls.get((attack, defense, kind)) for kind in CONTROLS]
        groups = [undefended, *controls, section.groups.get((attack, defense))]
        took = attack != "none" and attack_took(section, attack, names, Notes()).state == "yes"
        if attack != "none":
            cells = tuple(asr_cell(group, names, notes) for group in groups)
            rows.append(PriceRow(attack, defense, ASR, ASR, took, cells))
        for column in utility_columns(section):
            if column.sums_up:
                cells = tuple(utility_cell(section, group, column, notes) for group in groups)
                rows.append(PriceRow(attack, defense, column.evaluator, column.metric, took, cells))
    return PriceTable(rows, list(_sentences(rows)), notes.all) if rows else None


def _sentences(rows: Sequence[PriceRow]) -> Iterator[str]:
    """One a defense: of its first measure of utility, and of the success of the attacks that took; means over the attacks."""
    for defense in dict.fromkeys(row.defense for row in rows):
        mine = [row for row in rows if row.defense == defense]
        measured = {row.measure for row in mine}
        utility = next((name for name in UTILITY if name in measured), "")
        lost = _mean_parts(row for row in mine if row.measure == utility)
        taken = _mean_parts(row for row in mine if row.measure == ASR and row.took)
        said = []
        if lost:
            said.append(_said(f"{defense}'s", f"points of {utility} lost", f"no {utility} is lost with {defense}", lost))
        if taken:
            said.append(_said("the", f"points of ASR that {defense} takes away", f"no ASR is taken away by {defense}", taken))
        if said:
            sentence = "; ".join(said)
            yield f"{sentence[0].upper()}{sentence[1:]}."


def _said(whose: str, what: str, none: str, parts: Sequence[float]) -> str:
    if sum(parts) < LEAST:
        return none
    *others, last = (f"{name} for {number(part)}" for part, name in zip(parts, PARTS, strict=True))
    shares = f"{', '.join(others)} and {last}".replace(" for ", " account for ", 1)
    return f"of {whose} {number(sum(parts))} {what}, {shares}"


def _mean_parts(rows: Iterator[PriceRow]) -> tuple[float, ...] | None:
    found = [parts for row in rows if (parts := row.parts)]
    return tuple(fmean(values) for values in zip(*found, strict=True)) if found else None


def price_rows(section: Section) -> list[dict[str, Any]]:
    """The table for a CSV file: fractions, and what each step from plain CLIP to the defense takes away."""
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
