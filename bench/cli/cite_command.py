"""`bench cite`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import OUT, plugin_option
from bench.interface.plugins import load_plugins


@click.command("cite")
@click.argument("what", nargs=-1, metavar="[FOLDER | NAME...]")
@plugin_option
def command(what: tuple[str, ...], plugin: tuple[str, ...]) -> None:
    """Print BibTeX entries of the papers behind a results folder, by default results, or behind plugins.

    \b
    bench cite results > used.bib
    bench cite safeclip badnet
    """
    load_plugins(plugin)
    from bench.interface.cite import cite_plugins, cite_runs
    from bench.interface.describe import runs_in_folder

    folder = Path(what[0] if what else OUT)
    of_folder = len(what) <= 1 and (not what or (folder / "store.json").is_file())
    entries, missing = cite_runs(runs_in_folder(folder)) if of_folder else (cite_plugins(what), [])
    click.echo("\n\n".join(entry.text for entry in entries))
    if missing:
        click.echo(f"bench: warning: not installed, so not cited: {', '.join(missing)}; see --plugin", err=True)
