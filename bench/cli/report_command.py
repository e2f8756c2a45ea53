"""`bench report`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.cli.options import out_option


@click.command("report")
@out_option
def command(out: Path) -> None:
    """Make results.csv, table.csv and index.html from the records of a results folder, and show the tables.

    Reads records only: it needs neither the data nor the plugins that made them.
    """
    from bench.matrix.store import Store
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    store = Store.open(out)
    paths = write_report(store)
    console = Console()
    print_tables(store, console)
    for path in paths.values():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
