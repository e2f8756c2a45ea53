"""Whether a defense engaged: the limits that it declares for its telemetry, and messages about those it missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.matrix.old_records import engagement_of
from bench.matrix.schema import LimitRecord
from bench.reports.labels import number, percent_of
from bench.reports.notes import Notes
from bench.reports.records import EXTERNAL, Run

STATUS = "did not engage"
ELSEWHERE = "trained elsewhere: on which data and how is not on record here"
ENGAGEMENT = ("defense_engaged", "engagement")
"""Columns of CSV files: yes, no or empty; and the limits that were missed."""


def limits_of(run: Run) -> Sequence[LimitRecord]:
    """Each limit with its value; none if the defense declares none."""
    return engagement_of(run.record) if run.record else ()


def engaged(runs: Iterable[Run]) -> str:
    """ "no" if a run missed a limit, "yes" if none did, and empty if there are no limits."""
    met = [limit.engaged for run in runs for limit in limits_of(run)]
    return "" if not met else "yes" if all(met) else "no"


def missed(runs: Iterable[Run]) -> Iterator[tuple[Run, LimitRecord]]:
    return ((run, limit) for run in runs for limit in limits_of(run) if not limit.engaged)


def engagement_notes(name: str, runs: Iterable[Run], notes: Notes) -> list[int]:
    """Add a note for each limit that a run missed, located by `name`, the seed and the value, and one for external models."""
    found = {notes.add(EXTERNAL, ELSEWHERE, name) for run in runs if run.external}
    found |= {
        notes.add(STATUS, f"{limit.what} should be {bounds(limit)}; {limit.advice}", f"{name}, seed {run.seed}: {value}")
        for run, limit in missed(runs)
        for value in [value_of(limit)]
    }
    return sorted(found)


def engagement_columns(runs: Sequence[Run]) -> dict[str, str]:
    """The columns ENGAGEMENT of a CSV file; each missed limit is listed once."""
    messages = [f"{limit.what}: {value_of(limit)}, should be {bounds(limit)}; {limit.advice}" for _, limit in missed(runs)]
    return dict(zip(ENGAGEMENT, (engaged(runs), ". ".join(dict.fromkeys(messages))), strict=True))


def value_of(limit: LimitRecord) -> str:
    if limit.value is None:
        return "not measured"
    return f"{number(limit.value)}%" if limit.unit == "fraction" else number(limit.value, "")


def bounds(limit: LimitRecord) -> str:
    given = [("at least", limit.low), ("at most", limit.high)]
    shown = percent_of if limit.unit == "fraction" else "{:g}".format
    return " and ".join(f"{word} {shown(bound)}" for word, bound in given if bound is not None)
