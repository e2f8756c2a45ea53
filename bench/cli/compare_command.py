"""`bench compare`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.cli.options import out_option
from bench.interface.values import parse_names


@click.command("compare")
@click.argument("defense")
@click.argument("against")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("asr,zero_shot,linear_probe",),
    show_default=True,
    metavar="LIST",
    help="asr of each attack; zero_shot, linear_probe: means over tasks and attacks.",
)
@out_option
def command(defense: str, against: str, metrics: tuple[str, ...], out: Path) -> None:
    """Tell the difference of two defenses from noise: paired over the seeds that both were run with.

    A difference is DEFENSE less AGAINST, with its 95% interval and p of Student's t. Detectable is the smallest true difference
    that so many seeds find in four of five cases. Of utility the last column says whether the two are as good as equal: p of a
    true difference of a point or more. Names are those of the report's tables.

    Beneath, for each attack and seed: the probes that only one of the two takes for the adversary's class, with McNemar's exact
    p. That is evidence within one training, not on another seed.

    \b
    bench compare safeclip clip
    bench compare safeclip roclip --metric asr --out results/reference
    """
    from bench.matrix.store import Store
    from bench.reports.records import load_runs
    from bench.reports.sections import sections_of
    from bench.reports.terminal import print_damaged
    from bench.reports.terminal_comparisons import print_comparisons

    store, console = Store.open(out), Console()
    print_comparisons(store, sections_of(load_runs(store)), defense, against, parse_names(metrics), console)
    print_damaged(store, console)
