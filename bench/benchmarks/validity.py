"""Whether one setting predicts another: the same defenses against the same attacks in two results folders.

    python -m bench.benchmarks.validity results/reference results/photographs

Prints a Markdown table with a row for each attack that is effective in both: the ASR under each defense that was run in both,
and Kendall's tau of the order of these defenses. † marks a defense that did not engage. Takes the first setting of each folder;
plain CLIP is no defense.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from bench.benchmarks import run
from bench.errors import UserError
from bench.matrix.store import Store
from bench.reports.answer import MARGIN, Outcome, answer
from bench.reports.labels import number
from bench.reports.records import load_runs
from bench.reports.sections import Section, sections_of
from bench.reports.tables import ASR, asr_evaluators, stat_of
from bench.statistics.agreement import Agreement, Counts, agreement

DISENGAGED = "†"


@click.command()
@click.argument("first", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("second", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(first: Path, second: Path) -> None:
    """Compare the verdicts of two results folders."""
    for line in table(section_of(first), section_of(second)):
        click.echo(line)


def section_of(folder: Path) -> Section:
    """The first setting of a results folder. Raises UserError if it is none, or holds no runs."""
    sections = sections_of(load_runs(Store.open(folder)))
    if not sections:
        raise UserError(f"{folder}: no runs are on record there; `bench run --out {folder}` makes some")
    return sections[0]


def table(first: Section, second: Section) -> Iterator[str]:
    """The lines of the table, and the number of equal verdicts. Raises UserError if there is no verdict to compare."""
    ours, theirs = outcomes_of(first), outcomes_of(second)
    both = [cell for cell in ours if cell in theirs]
    if not both:
        raise UserError("no defense was run against the same effective attack, at the same rate, in both folders")
    attacks, defenses = (list(dict.fromkeys(names)) for names in zip(*both, strict=True))
    yield f"| attack | {' | '.join(defenses)} | Kendall's tau |"
    yield f"| --- |{' ---: |' * (len(defenses) + 1)}"
    for attack in attacks:
        shared = [name for name in defenses if (attack, name) in both]
        cells = [
            " / ".join(asr_text(each[attack, name]) for each in (ours, theirs)) if name in shared else "" for name in defenses
        ]
        order = agreement(counts(first, attack, shared), counts(second, attack, shared))
        yield f"| {attack} | {' | '.join(cells)} | {order_text(order)} |"
    same = sum(ours[cell].stopped == theirs[cell].stopped for cell in both)
    yield ""
    yield f"{same} of {len(both)} verdicts are the same."


def outcomes_of(section: Section) -> dict[tuple[str, str], Outcome]:
    """The outcome of each effective attack under each defense."""
    found = answer(section)
    defenses = [verdict for verdict in found.verdicts if not verdict.undefended] if found else []
    return {(outcome.attack, verdict.defense): outcome for verdict in defenses for outcome in verdict.outcomes}


def asr_text(outcome: Outcome) -> str:
    """In bold if it is more than MARGIN above the floor."""
    asr = number(outcome.asr) if outcome.asr <= outcome.floor + MARGIN else f"**{number(outcome.asr)}**"
    return asr if outcome.engaged else f"{asr} {DISENGAGED}"


def counts(section: Section, attack: str, defenses: list[str]) -> Counts:
    """Hits and probes under each defense, over its seeds."""
    groups = [section.groups[attack, name] for name in defenses]
    stats = [stat_of(group, asr_evaluators(section), ASR) for group in groups]
    points = [stat.points for stat in stats if stat]
    return np.array([(sum(p.hits or 0 for p in each), sum(p.n or 0 for p in each)) for each in points])


def order_text(order: Agreement | None) -> str:
    return "none" if order is None else f"{order.tau:.2f} [{order.low:.2f}, {order.high:.2f}]"


if __name__ == "__main__":
    run(main)
