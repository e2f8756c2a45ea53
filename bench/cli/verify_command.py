"""`bench verify`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.errors import UserError
from bench.interface.values import split_data_root


@click.command("verify")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Unpack an accepted archive into this new folder.")
@click.option("--retrain", is_flag=True, help="Train a run anew and compare: the cheapest of a defense under attack on scenes.")
@click.option("--run", metavar="KEY", help="With --retrain: this run instead, one that the submitter cannot foresee.")
@click.option("--run-plugins", is_flag=True, help="Import the plugin files in the archive: runs their code on this machine.")
@click.option("--data", multiple=True, metavar="NAME:DIR", help="Folder of a data set that records name; repeatable.")
def command(archive: Path, to: Path | None, retrain: bool, run: str | None, run_plugins: bool, data: tuple[str, ...]) -> None:
    """Check an archive of `bench submit`: digests, keys, requests, data set and poison; and its numbers, if it has weights.

    Nothing in the archive is run or unpickled. Exit codes: 0 accepted, 2 refused, with the file and the reason.

    \b
    bench verify safeclip.zip --retrain --to verified/safeclip
    """
    if run and not retrain:
        raise UserError(f"--run {run}: names the run of --retrain, which is not given")
    roots = dict(split_data_root(each, None) for each in data)
    if None in roots.values():
        raise UserError(f"--data {','.join(data)}: expected NAME:DIR")
    from bench.submission.verify import Options, verify

    options = Options({name: root for name, root in roots.items() if root}, run_plugins, retrain, run)
    verify(archive, options, to, click.echo)
    click.echo(f"{archive}: accepted")
