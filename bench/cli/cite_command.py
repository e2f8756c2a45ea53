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
    """Print BibTeX of the papers behind a results folder, by default results, or of attacks, defenses, evaluators, data sets.

    \b
    bench cite results > used.bib
    bench cite safeclip badnet
    """
    load_plugins(plugin)
    from bench.interface.citing import of_names, of_runs
    from bench.interface.describe import runs_of

    folder = Path(what[0] if what else OUT)
    of_folder = len(what) <= 1 and (not what or (folder / "store.json").is_file())
    entries, missing = of_runs(runs_of(folder)) if of_folder else (of_names(what), [])
    click.echo("\n\n".join(entry.text for entry in entries))
    if missing:
        click.echo(f"bench: warning: not installed here, so not cited: {', '.join(missing)}; see --plugin", err=True)
