"""Tables in the layout of a paper: published and measured values and their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.reports.effectiveness import INEFFECTIVE, judge_attack
from bench.reports.engagement import engaged, engagement_columns, engagement_notes
from bench.reports.measures import METRICS, UTILITY, Metric, point_for, tasks_of
from bench.reports.notes import Note, Notes
from bench.reports.records import Run
from bench.reports.stats import Point, Pooled, Stat, best_of, pooled
from bench.reports.suite_variants import SuiteVariant
from bench.reports.tables import ASR, FLOOR, Cell, worst
from bench.suites.parts import Column, Row
from bench.suites.suite import MINUS_CLIP, NO_PLUGIN, PRINTED_ONLY, UNDEFENDED, Condition, TableCell

BLANK = "–"
WIDEST = 10
"""Largest number of columns side by side; further ones are stacked below."""


@dataclass
class PaperCell:
    """A published and a measured value.

    Attributes
    ----------
    shows : TableCell
        What the cell shows.
    printed : str
        The published value as text; empty if the paper has no such cell, or the suite nothing published.
    published : float or None
        The published value.
    measured : Cell
        The measured value, or why there is none.
    metric : Metric
        How the metric is displayed and compared.
    effective : str
        For an ASR, whether the attack is effective: yes, no or unknown.
    engagement : dict of str to str
        The CSV columns about the engagement of the defense.
    """

    shows: TableCell
    printed: str
    published: float | None
    measured: Cell
    metric: Metric
    effective: str = ""
    engagement: dict[str, str] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether it says nothing about the defense: the attack is ineffective or the defense did not engage."""
        return self.effective == "no" or self.measured.engaged == "no"

    @property
    def text(self) -> str:
        return shown(self.measured.stat.mean, self.metric.unit) if self.measured.stat else ""

    @property
    def spread(self) -> str:
        stat = self.measured.stat
        if stat is None or not self.metric.differs:
            return ""
        if stat.std is not None:
            return f"± {shown(stat.std, self.metric.unit)}"
        low, high = stat.points[0].low, stat.points[0].high
        return "" if low is None or high is None else f"[{shown(low, self.metric.unit)}, {shown(high, self.metric.unit)}]"

    @property
    def interval(self) -> str:
        """The interval of the pooled counts, for several seeds."""
        pooled = self.pooled
        return f"[{shown(pooled.low, self.metric.unit)}, {shown(pooled.high, self.metric.unit)}]" if pooled else ""

    @property
    def pooled(self) -> Pooled | None:
        """The pooled counts, for several seeds."""
        stat = self.measured.stat
        return stat.pooled if stat and stat.std is not None and self.metric.differs else None

    @property
    def difference(self) -> float | None:
        """Measured minus published, in the unit of the table."""
        if self.measured.stat is None or self.published is None or not self.metric.differs:
            return None
        return self.measured.stat.mean * scale(self.metric.unit) - self.published

    @property
    def difference_text(self) -> str:
        found = self.difference
        if found is None:
            return ""
        text = _digits(found, self.metric.unit, beside=max(abs(self.published or 0), abs(found + (self.published or 0))))
        if float(text.replace("−", "-")) == 0:
            return text.removeprefix("−")
        return text if text.startswith("−") else f"+{text}"


@dataclass
class PaperRow:
    """A row; `cells` has None if the table has no cell."""

    label: tuple[str, ...]
    cells: list[PaperCell | None]


@dataclass
class PaperTable:
    variant: SuiteVariant
    columns: list[Column]
    rows: list[PaperRow]
    notes: list[Note] = field(default_factory=list)

    @property
    def cells(self) -> list[PaperCell]:
        return [cell for row in self.rows for cell in row.cells if cell]

    @property
    def done(self) -> int:
        return sum(cell.measured.stat is not None for cell in self.cells)

    def blocks(self, room: float = WIDEST, widths: Sequence[float] = ()) -> list[tuple[int, int]]:
        """Ranges of columns that fit side by side; a group of columns that fits is not split.

        Parameters
        ----------
        room : float
            Available width.
        widths : sequence of float
            Width of each column; 1 by default.
        """
        each = widths or [1.0] * len(self.columns)
        found: list[tuple[int, int]] = []
        for group in _groups(self.columns):
            whole = sum(each[slice(*group)]) <= room
            for start, end in [group] if whole else [(at, at + 1) for at in range(*group)]:
                if found and sum(each[found[-1][0] : end]) <= room:
                    found[-1] = found[-1][0], end
                else:
                    found.append((start, end))
        return found

    def groups(self, block: tuple[int, int]) -> list[tuple[str, int]]:
        """Names of the column groups of a block, with their numbers of columns."""
        columns = self.columns[slice(*block)]
        return [(columns[start].group, end - start) for start, end in _groups(columns)]


def labels_of(tables: Sequence[PaperTable]) -> list[str]:
    """Labels such as Table 1, or Table 1 of Yang et al. 2024 if there are tables of several papers."""
    suites = [table.variant.suite for table in tables]
    several = len({suite.paper for suite in suites}) > 1
    return [suite.reference if several else suite.label for suite in suites]


def scale(unit: str) -> float:
    """The factor from a value to its display: fractions are shown in percent."""
    return 100.0 if unit == "fraction" else 1.0


def shown(value: float, unit: str) -> str:
    return _digits(value * scale(unit), unit)


def _digits(value: float, unit: str, beside: float = 0.0) -> str:
    """One decimal for percent; three significant digits for other units, and if `value` and `beside` are small."""
    small = unit != "fraction" or 0 < max(abs(value), abs(beside)) < 0.1
    return (f"{value:.3g}" if small else f"{value:.1f}").replace("-", "−")


def paper_table(variant: SuiteVariant, runs: Mapping[str, Run], anchors: Mapping[str, str]) -> PaperTable:
    """The table of a suite variant. `anchors` maps run keys to their anchors on the page."""
    return _Builder(variant, runs, anchors).table()


class _Builder:
    def __init__(self, variant: SuiteVariant, runs: Mapping[str, Run], anchors: Mapping[str, str]) -> None:
        self._variant = variant
        self._runs = runs
        self._anchors = anchors
        self._notes = Notes()

    def table(self) -> PaperTable:
        suite = self._variant.suite
        extra = self._extra_columns()
        rows = []
        for row in suite.rows:
            printed = [*row.published, *("" for _ in extra)]
            columns = [*suite.columns, *extra]
            cells = [self._cell(row, column, text, column in extra) for column, text in zip(columns, printed, strict=True)]
            rows.append(PaperRow(row.label, cells))
        table = PaperTable(self._variant, [*suite.columns, *extra], rows)
        _mark_best(table.cells)
        table.notes = self._notes.all
        return table

    def _extra_columns(self) -> list[Column]:
        """Columns for measured downstream tasks that the paper does not have."""
        of_tasks = [column for column in self._variant.suite.columns if column.task and column.task != MINUS_CLIP]
        if not of_tasks:
            return []
        runs = [run for condition in self._variant.runs for run in self._of(condition)]
        tasks = {task for run in runs for e in run.evaluations if e.name in UTILITY for task in tasks_of(e)}
        new = sorted(tasks - {column.task for column in of_tasks})
        return [of_tasks[0].model_copy(update={"label": task, "task": task, "group": "not in the paper"}) for task in new]

    def _cell(self, row: Row, column: Column, printed: int | float | str, extra: bool) -> PaperCell | None:
        if printed == "" and not extra:
            return None
        shows = self._variant.suite.cell(row, column)
        value = None if isinstance(printed, str) else float(printed)
        cell = PaperCell(shows, self._variant.suite.printed(printed), value, self._measured(shows), METRICS[shows.metric])
        cell.engagement = engagement_columns(self._of(shows.condition.id))
        if shows.metric == ASR and cell.measured.stat:
            cell.effective = self._effective(shows.condition, cell.measured)
        return cell

    def _measured(self, shows: TableCell) -> Cell:
        condition, metric, task = shows
        if metric == PRINTED_ONLY:
            return Cell(word="published only")
        if task == MINUS_CLIP and condition.defense == UNDEFENDED:
            return Cell(word=BLANK)
        runs = self._of(condition.id)
        if not runs:
            reason = self._variant.why_not(condition)
            word = "unsupported" if reason.startswith(NO_PLUGIN) else "not run"
            return Cell(word=word, reason=reason, notes=[self._notes.add(word, reason, condition.id)])
        undefended = {run.seed: run for run in self._of(condition.undefended.id)}
        found = {run.seed: point_for(run, undefended.get(run.seed), metric, task) for run in runs}
        return self._summed(condition, runs, found)

    def _summed(self, condition: Condition, runs: Sequence[Run], found: Mapping[int, Point | tuple[str, str]]) -> Cell:
        cell = Cell(anchor=self._anchor(runs), expected=len(runs), engaged=engaged(runs))
        points = {seed: point for seed, point in found.items() if isinstance(point, Point)}
        problems = {seed: problem for seed, problem in found.items() if not isinstance(problem, Point)}
        for seed, problem in problems.items():
            marker = self._notes.add(*problem, f"{condition.id}, seed {seed}")
            cell.notes += [marker] if marker not in cell.notes else []
        if problems:
            cell.word, cell.reason = worst(problems.values())
        if points:
            cell.stat = Stat(tuple(points), tuple(points.values()))
            cell.notes += engagement_notes(condition.id, runs, self._notes)
        return cell

    def _effective(self, condition: Condition, cell: Cell) -> str:
        """Whether the attack is effective on the undefended runs; adds a note if it is not."""
        undefended = [self._stat(condition.undefended, metric) for metric in (ASR, FLOOR)]
        asr, floor = undefended
        state, reason = judge_attack([asr] if asr else [], [floor] if floor else [])
        if state == "no":
            cell.notes.append(self._notes.add(INEFFECTIVE, reason, condition.undefended.id))
        return state

    def _stat(self, condition: Condition, metric: str) -> Stat | None:
        found = {run.seed: pooled(e, metric) for run in self._of(condition.id) for e in run.evaluations if e.name == ASR}
        points = {seed: point for seed, point in found.items() if point}
        return Stat(tuple(points), tuple(points.values())) if points else None

    def _of(self, condition: str) -> list[Run]:
        """The runs of a condition, by seed."""
        runs = [self._runs[key] for key in self._variant.runs.get(condition, []) if key in self._runs]
        return sorted(runs, key=lambda run: run.seed)

    def _anchor(self, runs: Sequence[Run]) -> str:
        known = {self._anchors.get(run.key, f"run-{run.key}") for run in runs}
        return known.pop() if len(known) == 1 else f"run-{runs[0].key}"


def _mark_best(cells: Sequence[PaperCell]) -> None:
    """Mark the best of the defenses that engaged, for the same data, attack, model and metric.

    None is marked against an ineffective attack.
    """
    alike: dict[tuple[object, ...], list[PaperCell]] = {}
    for cell in cells:
        if cell.measured.engaged != "no" and (cell.shows.metric != ASR or cell.effective == "yes"):
            alike_in = cell.shows._replace(condition=cell.shows.condition._replace(defense=""))
            alike.setdefault(tuple(alike_in), []).append(cell)
    for group in alike.values():
        metric = group[0].metric
        for position in best_of([cell.measured.stat for cell in group], metric.better, metric.decimals):
            group[position].measured.best = True


def _groups(columns: Sequence[Column]) -> list[tuple[int, int]]:
    """Ranges of adjacent columns of one group; a column without a group is a range of its own."""
    found: list[tuple[int, int]] = []
    for position, column in enumerate(columns):
        if found and column.group and columns[found[-1][0]].group == column.group:
            found[-1] = found[-1][0], position + 1
        else:
            found.append((position, position + 1))
    return found
