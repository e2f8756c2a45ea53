"""Whether a defense engaged: what the records hold of the limits that it declares, and what to say of those it missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.matrix.schema import Limit
from bench.reports.labels import number, percent_of
from bench.reports.notes import Notes
from bench.reports.records import EXTERNAL, Run

STATUS = "did not engage"
ELSEWHERE = "trained elsewhere: on which data and how is not on record here"
ENGAGEMENT = ("defense_engaged", "engagement")
"""Columns of CSV files: yes, no or empty; and the limits that were missed."""


def limits_of(run: Run) -> Sequence[Limit]:
    """Each limit with its value; none in records of before, and of a defense that declares none."""
    return run.record.engagement if run.record else ()


def engaged(runs: Iterable[Run]) -> str:
    """ "no" where a run missed a limit, "yes" where all that were held against one kept it, empty where none was."""
    kept = [limit.engaged for run in runs for limit in limits_of(run)]
    return "" if not kept else "yes" if all(kept) else "no"


def missed(runs: Iterable[Run]) -> Iterator[tuple[Run, Limit]]:
    return ((run, limit) for run in runs for limit in limits_of(run) if not limit.engaged)


def engagement_notes(name: str, runs: Iterable[Run], notes: Notes) -> list[int]:
    """Adds a note for each limit that a run missed, where: `name`, the seed and the value; and for models from elsewhere."""
    found = {notes.add(EXTERNAL, ELSEWHERE, name) for run in runs if run.external}
    found |= {
        notes.add(STATUS, f"{limit.what} should be {bounds(limit)}; {limit.advice}", f"{name}, seed {run.seed}: {value}")
        for run, limit in missed(runs)
        for value in [value_of(limit)]
    }
    return sorted(found)


def engagement_columns(runs: Sequence[Run]) -> dict[str, str]:
    """For a CSV file, whether it did and each limit that was missed, once."""
    said = [f"{limit.what}: {value_of(limit)}, should be {bounds(limit)}; {limit.advice}" for _, limit in missed(runs)]
    return dict(zip(ENGAGEMENT, (engaged(runs), ". ".join(dict.fromkeys(said))), strict=True))


def value_of(limit: Limit) -> str:
    if limit.value is None:
        return "never measured"
    return f"{number(limit.value)}%" if limit.unit == "fraction" else number(limit.value, "")


def bounds(limit: Limit) -> str:
    given = [("at least", limit.low), ("at most", limit.high)]
    shown = percent_of if limit.unit == "fraction" else "{:g}".format
    return " and ".join(f"{word} {shown(bound)}" for word, bound in given if bound is not None)
