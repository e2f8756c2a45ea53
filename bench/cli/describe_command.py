"""`bench describe`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import plugin_option
from bench.interface.plugins import load_plugins


@click.command("describe")
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Results folder: also show the cost of a defense there."
)
@plugin_option
def command(name: str, out: Path | None, plugin: tuple[str, ...]) -> None:
    """Describe an attack, defense, evaluator, data set or recipe: its paper, options and deviations.

    \b
    bench describe safeclip --out results
    """
    load_plugins(plugin)
    from bench.interface.describe import describe, runs_in_folder

    click.echo("\n\n".join(describe(name, runs_in_folder(out))))
