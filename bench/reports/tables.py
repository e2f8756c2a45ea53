"""Human-readable tables of a section: attack success and utility, with notes on missing values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from bench.reports.effectiveness import INEFFECTIVE, judge_attack
from bench.reports.engagement import engaged, engagement_notes
from bench.reports.notes import TASK_NOTES, Note, Notes
from bench.reports.records import Evaluation
from bench.reports.sections import Group, Section
from bench.reports.stats import OVERALL, Point, Stat, best_of, point_of, pooled, task_mean

ASR, FLOOR, TRIGGERED = "asr", "asr_floor", "triggered_top1"


@dataclass
class Cell:
    """A mean over seeds, or a word that says why there is none.

    Attributes
    ----------
    word, reason : str
        The worst status of the seeds without a value, and its reason.
    expected : int
        The number of seeds requested.
    anchor : str
        Anchor of the runs on the page; empty if no run was requested.
    floor, triggered : Stat or None
        For an ASR: the floor, and the accuracy under the trigger.
    engaged : str
        Whether the defense engaged: yes, no, or empty if no record says.
    """

    stat: Stat | None = None
    word: str = ""
    reason: str = ""
    notes: list[int] = field(default_factory=list)
    expected: int = 0
    best: bool = False
    anchor: str = ""
    floor: Stat | None = None
    triggered: Stat | None = None
    engaged: str = ""

    @property
    def asked(self) -> bool:
        return bool(self.anchor)

    @property
    def seeds(self) -> str:
        if not self.stat:
            return ""
        count = len(self.stat.seeds)
        if count < self.expected:
            return f"{count} of {self.expected} seeds"
        return f"{count} seeds" if count > 1 else "1 seed"


@dataclass(frozen=True)
class AttackVerdict:
    """Whether an attack is effective on the undefended model: yes, no or unknown."""

    state: str
    message: str = ""
    note: int = 0


@dataclass
class Row:
    attack: str
    defense: str
    cells: list[Cell]
    notes: list[int] = field(default_factory=list)


@dataclass
class AsrTable:
    attacks: list[str]
    verdicts: list[AttackVerdict]
    rows: list[Row]
    notes: list[Note]


@dataclass(frozen=True)
class Column:
    """A utility column. `task` is empty for the mean over tasks, `metric` if nothing was measured yet."""

    evaluator: str
    name: str
    metric: str
    task: str
    tasks: tuple[str, ...] = ()
    unit: str = "fraction"
    better: str = "neither"
    description: str = ""

    @property
    def label(self) -> str:
        return self.task or (self.tasks[0] if len(self.tasks) == 1 else "mean" if self.tasks else "–")

    @property
    def sums_up(self) -> bool:
        """Whether it summarises the evaluator: the mean over its tasks, its own total, or its only task."""
        if not self.metric:
            return False
        return not self.task or (self.task == self.tasks[0] and (len(self.tasks) == 1 or self.task in OVERALL))


@dataclass
class UtilityTable:
    columns: list[Column]
    rows: list[Row]
    notes: list[Note]


@lru_cache(maxsize=64)
def asr_evaluators(section: Section) -> set[str]:
    """Names of the evaluators with the metric `asr`."""
    evaluations = [evaluation for run in section.runs for evaluation in run.evaluations]
    return {ASR} | {e.name for e in evaluations if any(m.metric == ASR for m in e.measurements)}


def asr_table(section: Section) -> AsrTable | None:
    """Rows: defenses; columns: attacks. None if no cell has an attack."""
    attacks = [attack for attack in section.attacks if attack != "none"]
    if not attacks:
        return None
    notes, names = Notes(), asr_evaluators(section)
    rows = []
    for defense in section.defenses:
        groups = [section.group(attack, defense) for attack in attacks]
        if any(groups):
            rows.append(Row("", defense, [asr_cell(group, names, notes) for group in groups]))
    verdicts = [attack_verdict(section, attack, names, notes) for attack in attacks]
    for position, verdict in enumerate(verdicts):
        if verdict.state == "yes":
            _mark_best([row.cells[position] for row in rows], "lower")
    return AsrTable(attacks, verdicts, rows, notes.all)


def asr_cell(group: Group | None, names: Iterable[str], notes: Notes) -> Cell:
    """The ASR of a group of seeds, with floor and accuracy under the trigger."""
    if group is None:
        return Cell()
    cell = cell_of(group, names, lambda evaluation: pooled(evaluation, ASR), notes)
    cell.floor = stat_of(group, names, FLOOR)
    cell.triggered = stat_of(group, names, TRIGGERED)
    cell.notes += engagement_notes(group.name, group.runs, notes)
    return cell


def attack_verdict(section: Section, attack: str, names: Iterable[str], notes: Notes) -> AttackVerdict:
    """Whether an attack is effective: its mean undefended ASR is at least floor + 20 points, and at least 30%."""
    undefended = [group for (at, _), group in section.groups.items() if at == attack and group.undefended]
    measured = [stat for group in undefended if (stat := stat_of(group, names, ASR))]
    floors = [stat for group in undefended if (stat := stat_of(group, names, FLOOR))]
    state, reason = judge_attack(measured, floors)
    if state == "unknown":
        return AttackVerdict(state, reason)
    return AttackVerdict("no", INEFFECTIVE, notes.add(INEFFECTIVE, reason, attack)) if state == "no" else AttackVerdict(state)


def stat_of(group: Group, names: Iterable[str], metric: str) -> Stat | None:
    """The pooled metric over the seeds that have it."""
    return cell_of(group, names, lambda evaluation: pooled(evaluation, metric), Notes()).stat


def cell_of(group: Group, names: Iterable[str], point: Callable[[Evaluation], Point | None], notes: Notes) -> Cell:
    """The mean of a value over the seeds of a group, with a note for each seed without one.

    Parameters
    ----------
    group : Group
        The runs.
    names : iterable of str
        The evaluators that measure it.
    point : callable
        Returns the value from an evaluation; None if it has none.
    notes : Notes
        Collects the footnotes.
    """
    seeds, points, cell = [], [], Cell(anchor=group.anchor, expected=len(group.runs), engaged=engaged(group.runs))
    problems: list[tuple[str, str]] = []
    for run in group.runs:
        found = [evaluation for evaluation in run.evaluations if evaluation.name in names] or list(run.evaluations[:1])
        evaluation = found[0]
        value = point(evaluation) if evaluation.name in names else None
        if value is not None:
            seeds.append(run.seed)
            points.append(value)
            continue
        status, reason = _problem(evaluation, names)
        problems.append((status, reason))
        marker = notes.add(status, reason, f"{group.name}, seed {run.seed}")
        cell.notes += [marker] if marker not in cell.notes else []
    if points:
        cell.stat = Stat(tuple(seeds), tuple(points))
    if problems:
        cell.word, cell.reason = worst(problems)
    return cell


def worst(problems: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The worst status of several seeds, with its reason."""
    order = ("failed", "missing", "unsupported", "no value")
    return min(problems, key=lambda problem: order.index(problem[0]))


def _problem(evaluation: Evaluation, names: Iterable[str]) -> tuple[str, str]:
    if evaluation.name and evaluation.name not in names:
        return "missing", f"this evaluation was not requested ({', '.join(sorted(names))})"
    if evaluation.status == "done":
        return "no value", "measured, but not this metric: no applicable image, or another version of the evaluator"
    return evaluation.status, evaluation.reason


def _mark_best(cells: Sequence[Cell], better: str) -> None:
    """Mark the best of the defenses that engaged."""
    for position in best_of([None if cell.engaged == "no" else cell.stat for cell in cells], better):
        cells[position].best = True


@lru_cache(maxsize=64)
def utility_columns(section: Section) -> list[Column]:
    """All evaluators, metrics and tasks that were measured, the mean over tasks first; without curves."""
    found: dict[tuple[str, str, str], dict[str, Evaluation]] = defaultdict(dict)
    skip = asr_evaluators(section)
    evaluations = [e for run in section.runs for e in run.evaluations if e.name and e.name not in skip]
    for e in evaluations:
        for measurement in e.measurements:
            if e.metric(measurement.metric).role != "curve":
                found[section.label(e), e.name, measurement.metric][measurement.task] = e
    unmeasured = {e.name for e in evaluations} - {e.name for e in evaluations if e.measurements}
    columns = [Column(name, name, "", "") for name in unmeasured]
    for (label, name, metric), tasks in found.items():
        declared = next(iter(tasks.values())).metric(metric)
        about = {"unit": declared.unit, "better": declared.better, "description": declared.description}
        names = tuple(sorted(tasks, key=lambda task: (task not in OVERALL, task)))
        if len(names) > 1 and names[0] not in OVERALL:
            columns.append(Column(label, name, metric, "", names, **about))
        columns += [Column(label, name, metric, task, names, **about) for task in names]
    order = {(name, ""): -1 for name in unmeasured}
    order |= {(e.name, m.name): place for e in evaluations if e.record for place, m in enumerate(e.record.metrics)}
    return sorted(columns, key=lambda column: (column.name, column.evaluator, order[column.name, column.metric]))


def utility_table(section: Section) -> UtilityTable | None:
    """Rows: attacks x defenses; columns: evaluators and tasks. The best defense is marked for each attack."""
    columns, notes = utility_columns(section), Notes()
    if not columns:
        return None
    rows = []
    for (attack, defense), group in section.groups.items():
        cells = [utility_cell(section, group, column, notes) for column in columns]
        rows.append(Row(attack, defense, cells, engagement_notes(group.name, group.runs, notes)))
    for attack in section.attacks:
        for position, column in enumerate(columns):
            _mark_best([row.cells[position] for row in rows if row.attack == attack], column.better)
    for evaluation in (each for run in section.runs for each in run.evaluations):
        for kind in TASK_NOTES:
            for task, reason in evaluation.left_out(kind).items():
                notes.add(kind, reason, task)
    return UtilityTable(columns, rows, notes.all)


def utility_cell(section: Section, group: Group | None, column: Column, notes: Notes) -> Cell:
    """The value of a utility column for a group of seeds."""
    if group is None:
        return Cell()

    def point(evaluation: Evaluation) -> Point | None:
        if section.label(evaluation) != column.evaluator:
            return None
        if column.task:
            return point_of(evaluation, column.metric, column.task)
        return task_mean(evaluation, column.metric, column.tasks)

    return cell_of(group, {column.name}, point, notes)
