"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.cli.options import names, out_option, some_names


@click.command("report")
@out_option
@click.option(
    "--suite", "suites", multiple=True, metavar="LIST", help="Paper tables to show, or all; by default those that were run."
)
@click.option(
    "--format", "formats", multiple=True, default=("csv,html",), show_default=True, metavar="LIST", help="csv, html, latex."
)
def command(out: Path, suites: tuple[str, ...], formats: tuple[str, ...]) -> None:
    """Make results.csv, table.csv and index.html from the records of a results folder, and show the tables.

    Suites that were run, or that --suite names, are shown as the paper arranges them, published beside measured; each has a
    CSV file too, and with --format latex a table for LaTeX.

    Reads records only: it needs neither the data nor the plugins that made them.
    """
    from bench.matrix.store import Store
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    store = Store.open(out)
    paths = write_report(store, some_names("--format", formats), names(suites))
    console = Console()
    print_tables(store, console)
    for path in paths.values():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
