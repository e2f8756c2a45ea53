"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.cli.options import out_option
from bench.console import say
from bench.interface.values import names, some_names


@click.command("report")
@out_option
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="LIST",
    help="Tables and figures of papers, or all, or files: mine.toml; by default those that were run.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("csv,html",),
    show_default=True,
    metavar="LIST",
    help="Of csv, html and latex.",
)
def command(out: Path, suites: tuple[str, ...], formats: tuple[str, ...]) -> None:
    """Make results.csv, table.csv and index.html from the records of a results folder, and show the tables.

    Suites that were run, or that --suite names, stand in index.html as the paper arranges them, published beside measured;
    each has a CSV file too, and with --format latex a table for LaTeX. With --suite the terminal shows those: measured,
    published, difference.

    Reads records only: it needs neither the data nor the plugins that made them. A damaged record is named and left out.
    """
    from bench.matrix.store import Store
    from bench.reports.paper_terminal import print_papers
    from bench.reports.records import load_runs
    from bench.reports.terminal import print_damaged, print_tables
    from bench.reports.write import paper_tables, write_report

    store, wanted = Store.open(out), names(suites)
    paths = write_report(store, some_names("--format", formats), wanted)
    console = Console()
    if wanted:
        print_papers(paper_tables(store, load_runs(store), wanted), console)
    else:
        print_tables(store, console)
    print_damaged(store, console)
    for path in paths.values():
        say(console, str(path))
