"""`bench submit`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import output_file


@click.command("submit")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="FILE", callback=output_file, help="A .zip or a .tar."
)
@click.option("--weights", is_flag=True, help="Pack the trained weights too, so that the numbers can be measured again.")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file of a method that is not built in; repeatable. It is packed, not run.",
)
def command(folder: Path, to: Path, weights: bool, plugins: tuple[Path, ...]) -> None:
    """Pack a results folder for somebody else to verify, and for a leaderboard.

    The archive has all records, manifests of poison, predictions and plugin files, the versions of all installed packages, and
    the sha256 of every file. Every requested cell must be on record.

    \b
    bench submit results --to safeclip.zip --weights
    """
    from bench.submission.pack import submit

    packed = submit(folder, to, weights, plugins)
    weighed = f", {packed.weights} with weights" if weights else ", without weights"
    click.echo(f"{to}: {packed.runs} runs{weighed}, {packed.files} files, {packed.size / 1e6:.1f} MB")
