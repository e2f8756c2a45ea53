"""`bench leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("leaderboard")
def command() -> None:
    """Make a static site from results folders."""


@command.command("build", short_help="Write the site.")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the site.")
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Offer an archive of `bench submit` for download; repeatable.",
)
def build(folders: tuple[Path, ...], to: Path, archives: tuple[Path, ...]) -> None:
    """Rank defenses by their worst attack, on a page for each setting and track; no server and no network is needed.

    A folder is one of your own, or what `bench verify --to` wrote. Anything else you vouch for.

    \b
    bench leaderboard build results verified/safeclip --to site
    """
    from bench.leaderboard.site import build

    site = build(folders, to, archives)
    click.echo(f"{to / 'index.html'}: {len(site.board.runs)} runs, {len(site.settings)} settings, {len(site.methods)} methods")
    for path, reason in site.board.damaged:
        click.echo(f"damaged: {path}: {reason}")
