"""What the committed records say, for the pages that quote them. Shares are in percent."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd

import bench
from bench.matrix.store import Store
from bench.reports.records import Run, load_runs

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
DEFENSES = ("clip", "roclip", "cleanclip", "safeclip")


@cache
def measured(folder: str) -> pd.DataFrame:
    """`bench.load_results` of a committed folder, without cells that have no value."""
    rows = bench.load_results(RESULTS / folder)
    return rows[rows.value.notna()]


def asr(
    attack: str,
    defense: str,
    *,
    metric: str = "asr",
    folder: str = "reference",
    seed: int = 0,
    model: str = "scenes-small",
) -> float:
    rows = measured(folder).query("attack == @attack and defense == @defense and seed == @seed and model == @model")
    (value,) = rows[(rows.metric == metric) & (rows.task == "all")].value
    return 100 * float(value)


def accuracy(evaluator: str, defense: str, *, folder: str = "reference", **where: str) -> float:
    """The mean over the tasks and attacks that are not named."""
    rows = measured(folder).query("evaluator == @evaluator and defense == @defense and attack != 'none'")
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return 100 * float(rows.value.mean())


@cache
def runs(folder: str) -> dict[str, Run]:
    return {run.key: run for run in load_runs(Store.open(RESULTS / folder))}


def retrained(folder: str, original: str) -> list[Run]:
    """The runs of a folder that are not copies of records in another."""

    def record(name: str, key: str) -> bytes | None:
        path = RESULTS / name / "runs" / key / "run.json"
        return path.read_bytes() if path.exists() else None

    return [run for key, run in runs(folder).items() if record(folder, key) != record(original, key)]


def machines(folder: str) -> set[tuple[str, str]]:
    """Attack and machine of each run."""
    return {(run.attack, run.record.provenance.machine) for run in runs(folder).values() if run.record}


def poison(attack: str, *, folder: str = "reference", defense: str = "clip") -> tuple[int, int, int]:
    """Poisons, clean training pairs and targets of a run."""
    (record,) = (run.record for run in runs(folder).values() if (run.attack, run.defense) == (attack, defense))
    assert record
    assert record.poison
    assert record.data.train_pairs
    return record.poison.added, record.data.train_pairs - record.poison.added, len(record.poison.targets)


def hours(trained: Iterable[Run]) -> float:
    return sum(map(seconds, trained)) / 3600


def seconds(run: Run) -> float:
    assert run.record
    assert run.record.timing.train_seconds is not None
    return run.record.timing.train_seconds


def telemetry(number: str, epoch: int, *, attack: str, defense: str = "safeclip", folder: str = "reference") -> float:
    """A number of a defense at the first (0) or the last (-1) epoch that has it; the attack and defense name one run."""
    (run,) = (run for run in runs(folder).values() if (run.attack, run.defense) == (attack, defense))
    return _curve(run, number)[epoch]


def last(number: str, *, defense: str, folder: str) -> list[float]:
    """The same at the last epoch, of all runs of a defense."""
    return [_curve(run, number)[-1] for run in runs(folder).values() if run.defense == defense]


def _curve(run: Run, number: str) -> list[float]:
    assert run.record
    return [value for point in run.record.curves if (value := point.number(number)) is not None]


@cache
def table(number: int) -> pd.DataFrame:
    """A table of the paper from results/suites, which `tests/reports/test_reference.py` makes anew; what was measured."""
    rows = pd.read_csv(RESULTS / "suites" / "report" / f"table{number}.csv")
    return rows[rows.measured.notna()]


def cells(number: int, what: str = "measured", **where: str) -> list[float]:
    """A column of the rows of a table that have these values."""
    rows = table(number)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows), where
    return [100 * float(value) for value in rows[what]]


def cell(number: int, what: str = "measured", **where: str) -> float:
    """The same where all rows agree, as do those of the paper's data sets, which one data set stands in for."""
    (value,) = set(cells(number, what, **where))
    return value


def span(values: list[float], digits: int = 0) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
