"""Two defenses side by side in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.errors import UserError, did_you_mean
from bench.matrix.store import Store
from bench.reports.comparisons import Comparison, between
from bench.reports.labels import number, probability
from bench.reports.measures import UTILITY
from bench.reports.sections import Section
from bench.reports.tables import ASR
from bench.reports.terminal import grid_of
from bench.reports.within_seeds import WithinSeed, within_seeds

METRICS = (ASR, *UTILITY)
LEGEND = (
    "Points, with the 95% interval of a paired t test over n seeds. Detectable: the smallest true difference that so many find "
    "in four of five cases. p (≥1): of a true difference of a point or more; below .05 the two are as good as equal."
)
WITHIN = (
    "Within a seed: probes that only one of the two takes for the adversary's class, with McNemar's exact p. They share one "
    "training: this is no evidence on another seed, and does not replace the intervals over seeds."
)


def print_comparisons(
    store: Store, sections: Sequence[Section], defense: str, against: str, metrics: Sequence[str], console: Console
) -> None:
    """A table for each section in which both defenses were run, of what at least two common seeds measured.

    Another one has each seed of which both have predictions.

    Raises
    ------
    UserError
        For an unknown metric, for a defense that no section has, where nothing can be compared, and for a file of predictions
        that is not that of its record.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"--metric {metric}: no such metric; {did_you_mean(metric, METRICS)}")
    known = dict.fromkeys(name for section in sections for name in section.defenses)
    for name in (defense, against):
        if name not in known:
            raise UserError(f"{name}: no such defense in this results folder; {did_you_mean(name, list(known))}")
    found = []
    for section in sections:
        rows = between(section, defense, against, metrics)
        within = within_seeds(store, section, defense, against) if ASR in metrics else []
        if rows or within:
            found.append((section, rows, within))
    if not found:
        raise UserError(
            f"{defense} and {against}: nothing was measured with both on two seeds; `bench run --seeds 0,1,2` has more of them"
        )
    for section, rows, within in found:
        console.print(Text(f"\n{section.title}", style="bold"), Text(f"\n{section.subtitle}", style="dim"))
        if rows:
            _print(rows, console)
        if within:
            _print_within(within, defense, against, console)


def _print(rows: Sequence[Comparison], console: Console) -> None:
    grid = grid_of()
    grid.add_column("measure", overflow="fold", min_width=20)
    for name in ("difference", "p", "detectable", "p (≥1)", "n"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        difference = Text(number(row.result.difference), style="bold" if row.p < 0.05 else "")
        grid.add_row(
            Text(f"ASR {row.attack}" if row.measure == ASR else row.measure),
            difference.append(f" [{number(row.low)}, {number(row.high)}]", style="dim not bold"),
            probability(row.p),
            number(row.result.detectable),
            "" if row.equivalent is None else probability(row.equivalent),
            str(row.result.seeds),
        )
    console.print(grid)
    console.print(Text(LEGEND, style="dim"))


def _print_within(rows: Sequence[WithinSeed], defense: str, against: str, console: Console) -> None:
    grid = grid_of()
    grid.add_column("within a seed", overflow="fold", min_width=20)
    for name in ("seed", f"only {defense}", f"only {against}", "probes", "p"):
        grid.add_column(Text(name), justify="right", overflow="fold")
    for row in rows:
        found = row.result
        counts = (str(number) for number in (row.seed, found.first, found.second, found.probes))
        grid.add_row(Text(f"ASR {row.attack}"), *counts, probability(found.p))
    console.print(grid)
    console.print(Text(WITHIN, style="dim"))
