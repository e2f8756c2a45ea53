"""One setting and track of the board: its defenses in order, and what each did against each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.canonical import digest
from bench.leaderboard.board import Board, Origin
from bench.leaderboard.faulty import Faulty, fault_of, fault_of_attack
from bench.reports.answer import Answer, Verdict, answer, with_front
from bench.reports.comparisons import plain, utility_by_seed
from bench.reports.engagement import STATUS
from bench.reports.labels import track_of
from bench.reports.measures import UTILITY
from bench.reports.notes import Notes
from bench.reports.records import Run
from bench.reports.sections import Group, Section, sections_of
from bench.reports.tables import AsrTable, AttackVerdict, asr_table

UNDEFENDED, FAULTY = "undefended", "faulty"
_DETAILS = ("train.", "model.", "data.fingerprint")
"""How options begin that the index leaves out, as long as the others tell settings apart."""
_MOST_DRAWN, _LONGEST = 24, 30
"""Defenses, and letters of their labels, that a drawing can hold."""


@dataclass(frozen=True)
class Row:
    """A defense.

    rank: from 1, None where it has none, and `why`. verdict: on the effective attacks, None without one. utility: mean over
    tasks and attacks, by evaluator. seeds: their number. level: the least that stands behind its runs.
    """

    label: str
    name: str
    rank: int | None
    why: str
    verdict: Verdict | None
    utility: Mapping[str, float]
    seeds: int
    level: str

    @property
    def variant(self) -> str:
        """What the label adds to the name."""
        return self.label.removeprefix(self.name).strip(", ")

    @property
    def faulty(self) -> bool:
        return self.why.startswith(FAULTY)


@dataclass(frozen=True)
class Setting:
    """A data set with a recipe, in one track.

    attacks: the labels of those that are effective and not faulty. faulty: reasons by label of attacks. origins: of each group,
    by its anchor.
    """

    id: str
    section: Section
    track: str
    recipe: str
    attacks: tuple[str, ...]
    faulty: Mapping[str, str]
    rows: tuple[Row, ...]
    asr: AsrTable | None
    answer: Answer | None
    origins: Mapping[str, tuple[Origin, ...]]

    @property
    def title(self) -> str:
        return self.section.title

    @property
    def budget(self) -> str:
        """The recipe without the track, and without options that few readers know."""
        parts = self.recipe.split(" · ")[1:]
        return " · ".join(part.removeprefix("data.") for part in parts if not part.startswith(_DETAILS))

    @property
    def drawn(self) -> Answer | None:
        """The answer for the undefended model and the defenses that have a rank; None if there are none, or too many."""
        rows = [row for row in self.rows if row.verdict and (row.rank or row.why == UNDEFENDED)]
        names = [row.name for row in rows]
        if not 2 <= len(rows) <= _MOST_DRAWN:
            return None
        shown = [row.name if names.count(row.name) == 1 else row.label[:_LONGEST] for row in rows]
        verdicts = [replace(row.verdict, defense=name) for row, name in zip(rows, shown, strict=True) if row.verdict]
        return Answer(self.attacks, tuple(with_front(verdicts)))

    @property
    def leader(self) -> Row | None:
        return next((row for row in self.rows if row.rank == 1), None)

    @property
    def undefended(self) -> Row | None:
        return next((row for row in self.rows if row.why == UNDEFENDED), None)


def settings_of(board: Board, faults: Sequence[Faulty]) -> list[Setting]:
    return [_setting(section, board, faults) for section in sections_of(board.runs)]


def _setting(section: Section, board: Board, faults: Sequence[Faulty]) -> Setting:
    weights = section.shown[0].runs[0].weights
    faulty = {group.attack: reason for group in section.shown for run in group.runs if (reason := fault_of_attack(run, faults))}
    found = _without(answer(section), faulty)
    verdicts = {verdict.defense: verdict for verdict in found.verdicts} if found else {}
    attacks = tuple(attack for attack in found.attacks if attack not in faulty) if found else ()
    rows = [_row(section, name, verdicts.get(name), attacks, board, faults) for name in section.defenses]
    return Setting(
        id=f"setting-{digest(section.shown[0].runs[0].setting)}",
        section=section,
        track=track_of(weights),
        recipe=section.subtitle,
        attacks=attacks,
        faulty=faulty,
        rows=_ranked(rows),
        asr=_marked(asr_table(section), faulty, {row.label: row.why for row in rows if row.faulty}),
        answer=found,
        origins={group.anchor: _origins(group.runs, board) for group in section.shown},
    )


def _without(found: Answer | None, faulty: Mapping[str, str]) -> Answer | None:
    """The answer on the other attacks; None if there is none."""
    if found is None or not faulty:
        return found
    verdicts = []
    attacks = tuple(attack for attack in found.attacks if attack not in faulty)
    for verdict in found.verdicts:
        outcomes = tuple(outcome for outcome in verdict.outcomes if outcome.attack in attacks)
        if outcomes:
            verdicts.append(replace(verdict, outcomes=outcomes, unmeasured=len(attacks) - len(outcomes)))
    return Answer(attacks, tuple(verdicts)) if verdicts else None


def _row(
    section: Section, label: str, verdict: Verdict | None, attacks: Sequence[str], board: Board, faults: Sequence[Faulty]
) -> Row:
    groups = [group for group in section.groups.values() if group.defense == label]
    runs = [run for group in groups for run in group.runs]
    couple = (label, plain(section) or label)
    utility = {name: utility_by_seed(section, name, couple).get(label) for name in UTILITY}
    return Row(
        label=label,
        name=runs[0].defense,
        rank=None,
        why=_why_unranked(groups, verdict, attacks, faults),
        verdict=verdict,
        utility={name: fmean(values.values()) for name, values in utility.items() if values},
        seeds=len(verdict.seeds) if verdict else len({run.seed for run in runs if run.status == "done"}),
        level=board.level([run for run in runs if run.record]),
    )


def _why_unranked(groups: Sequence[Group], verdict: Verdict | None, attacks: Sequence[str], faults: Sequence[Faulty]) -> str:
    """Why a defense has no rank; empty if it has one."""
    runs = [run for group in groups for run in group.runs]
    faulty = next((reason for run in runs if (reason := fault_of(run, faults))), "")
    if faulty:
        return f"{FAULTY}: {faulty}"
    if groups[0].undefended:
        return UNDEFENDED
    if any(run.external for run in runs):
        return "trained elsewhere"
    if not attacks:
        return "no effective attack"
    if verdict is None or verdict.unmeasured:
        return f"{len(verdict.outcomes) if verdict else 0} of {len(attacks)} attacks"
    return "" if all(outcome.engaged for outcome in verdict.outcomes) else STATUS


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in the order of worst, then mean ASR: first those with a rank, then the undefended model, then the others."""

    def place(row: Row) -> tuple[int, float, float, str]:
        worst, mean = (row.verdict.worst.asr, row.verdict.mean) if row.verdict else (2.0, 2.0)
        return (0 if not row.why else 1 if row.why == UNDEFENDED else 2), worst, mean, row.label

    ordered = sorted(rows, key=place)
    places = [place(row)[1:3] for row in ordered]
    return tuple(replace(row, rank=None if row.why else places.index(at) + 1) for row, at in zip(ordered, places, strict=True))


def _origins(runs: Sequence[Run], board: Board) -> tuple[Origin, ...]:
    """Of the runs of a group that are on record, without duplicates."""
    return tuple(dict.fromkeys(board.origins[run.key] for run in runs if run.record))


def _marked(table: AsrTable | None, attacks: Mapping[str, str], defenses: Mapping[str, str]) -> AsrTable | None:
    """The table with a note on what is faulty, in which faulty attacks and defenses are credited with nothing."""
    if table is None or not (attacks or defenses):
        return table
    notes = Notes()
    notes.all = table.notes
    verdicts = [
        AttackVerdict("no", FAULTY, notes.add(FAULTY, attacks[name], name)) if name in attacks else verdict
        for name, verdict in zip(table.attacks, table.verdicts, strict=True)
    ]
    for row in table.rows:
        for cell, attack in zip(row.cells, table.attacks, strict=True):
            if row.defense in defenses and cell.asked:
                cell.notes.append(notes.add(FAULTY, defenses[row.defense].removeprefix(f"{FAULTY}: "), row.defense))
            cell.best = cell.best and attack not in attacks and row.defense not in defenses
    return replace(table, verdicts=verdicts, notes=notes.all)
