"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.cli.options import out_option
from bench.console import print_plain
from bench.interface.values import parse_names, require_names


@click.command("report")
@out_option
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="LIST",
    help="Tables and figures of papers, suite files, or all; by default those that were run.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("csv,html",),
    show_default=True,
    metavar="LIST",
    help="Any of csv, html, latex, svg, png, pdf; the last three are figures.",
)
def command(out: Path, suites: tuple[str, ...], formats: tuple[str, ...]) -> None:
    """Write results.csv, table.csv and index.html from the records of a results folder, and print the tables.

    index.html shows the suites that were run, or are given by --suite, in the paper's layout, published next to measured
    values; each also has a CSV file, and with --format latex a LaTeX table. With --suite these tables are printed: measured,
    published, difference. --format latex also writes answer.tex, a summary of each setting. Figures need matplotlib, the extra
    [plot].

    Needs the records alone, without data or plugins. Damaged records are listed and skipped.
    """
    from bench.matrix.store import Store
    from bench.reports.paper_terminal import print_papers
    from bench.reports.records import load_runs
    from bench.reports.terminal import print_damaged, print_tables
    from bench.reports.write import paper_tables, write_report

    store, wanted = Store.open(out), parse_names(suites)
    paths = write_report(store, require_names("--format", formats), wanted)
    console = Console()
    if wanted:
        print_papers(paper_tables(store, load_runs(store), wanted), console)
    else:
        print_tables(store, console)
    print_damaged(store, console)
    for path in paths.values():
        print_plain(console, str(path))
