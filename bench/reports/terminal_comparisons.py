"""Two defenses side by side in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.errors import UserError, did_you_mean
from bench.reports.comparisons import Comparison, between
from bench.reports.labels import number, probability
from bench.reports.measures import UTILITY
from bench.reports.sections import Section
from bench.reports.tables import ASR
from bench.reports.terminal import grid_of

METRICS = (ASR, *UTILITY)
LEGEND = (
    "Points, with the 95% interval of a paired t test over n seeds. Detectable: the smallest true difference that so many find "
    "in four of five cases. p (≥1): of a true difference of a point or more; below .05 the two are as good as equal."
)


def print_comparisons(
    sections: Sequence[Section], defense: str, against: str, metrics: Sequence[str], console: Console
) -> None:
    """A table for each section in which both defenses were run, of what at least two common seeds measured.

    Raises
    ------
    UserError
        For an unknown metric, for a defense that no section has, and where nothing can be compared.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise UserError(f"--metric {metric}: no such metric; {did_you_mean(metric, METRICS)}")
    known = dict.fromkeys(name for section in sections for name in section.defenses)
    for name in (defense, against):
        if name not in known:
            raise UserError(f"{name}: no such defense in this results folder; {did_you_mean(name, list(known))}")
    found = [(section, rows) for section in sections if (rows := between(section, defense, against, metrics))]
    if not found:
        raise UserError(
            f"{defense} and {against}: nothing was measured with both on two seeds; `bench run --seeds 0,1,2` has more of them"
        )
    for section, rows in found:
        console.print(Text(f"\n{section.title}", style="bold"), Text(f"\n{section.subtitle}", style="dim"))
        _print(rows, console)


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
