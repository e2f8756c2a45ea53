"""`bench data`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import plugin_option, recipe_option
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.interface.values import split_data_root

if TYPE_CHECKING:
    from bench.api import DatasetBundle
    from bench.api.data import Findings

_SIDE = 32


@click.group("data")
def command() -> None:
    """Check a data set before training on it."""


@command.command("verify", short_help="Count pairs, and missing or damaged files.")
@click.argument("name")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the data set; or NAME:DIR.")
@click.option("--decode", is_flag=True, help="Decode every image, and list damaged ones.")
@click.option("--set", "options", multiple=True, metavar="data.OPTION=VALUE", help="Set an option; repeatable.")
@recipe_option
@plugin_option
def verify(
    name: str,
    data_root: Path | None,
    decode: bool,
    options: tuple[str, ...],
    recipe: str | None,
    plugin: tuple[str, ...],
) -> int:
    """Count the pairs of a data set, and those that are missing, unreadable, duplicate or without a caption.

    Exit codes: 0 no problem found, 1 problems found, 2 the data set cannot be opened (problems found so far are shown).
    """
    load_plugins(plugin)
    from bench.api.data import Findings

    name, data_root = split_data_root(name, data_root)
    started, findings = time.perf_counter(), Findings()
    try:
        bundle = _open(name, data_root, options, recipe, findings)
    except UserError:
        _print_findings(findings, None, only_found=True)
        raise
    _check_pairs(name, bundle, findings)
    damaged = _damaged(bundle, findings) if decode else None
    _print_summary(bundle)
    _print_findings(findings, damaged)
    click.echo(f"in {time.perf_counter() - started:.1f} s")
    return 1 if findings.counts else 0


def _check_pairs(name: str, bundle: DatasetBundle, findings: Findings) -> None:
    """Note duplicate ids and empty captions."""
    import numpy as np

    from bench.data import duplicates

    parts = {"train": bundle.train, "holdout": bundle.holdout, "test": bundle.test}
    ids = duplicates.digests(uid.encode(errors="surrogatepass") for pairs in parts.values() for uid in pairs.uids)
    again = np.flatnonzero(duplicates.first_occurrence(ids) != np.arange(len(ids)))
    if len(again):
        uid = next(islice(chain.from_iterable(pairs.uids for pairs in parts.values()), int(again[0]), None))
        findings.note("duplicate", f"{name} has the id {uid} more than once", len(again))
    for part, pairs in parts.items():
        empty = [row for row, caption in enumerate(pairs.captions) if not caption.strip()]
        if empty:
            findings.note("captionless", f"{name} has no caption for {pairs.uids[empty[0]]} of {part}", len(empty))


def _open(name: str, root: Path | None, options: Sequence[str], recipe: str | None, findings: Findings) -> DatasetBundle:
    from bench import recipe as recipes
    from bench.api import DataPlace
    from bench.config import Settings
    from bench.matrix.workspace import cache_folder
    from bench.registry import datasets

    for option in options:
        if not option.strip().startswith("data."):
            raise UserError(f"--set {option}: only options of the data set apply here, for example data.on_error=skip")
    plugin = datasets[name].plugin
    if plugin.needs_root and root is None:
        raise UserError(f"bench data verify {name}: give its folder with --data-root DIR")
    params = Settings(name, options, recipe=recipes.load(recipe) if recipe else None).data(plugin)
    return plugin().open(params, _SIDE, DataPlace(root, cache_folder(), findings))


def _damaged(bundle: DatasetBundle, findings: Findings) -> list[str]:
    """The decoding error of each damaged image, without duplicates."""
    from bench.data.files import load_errors

    found: dict[str, None] = {}
    for pairs in (bundle.train, bundle.holdout, bundle.test):
        found.update(dict.fromkeys(load_errors(pairs.images)))
    for problem in found:
        findings.note("unreadable", problem)
    return list(found)


def _print_summary(bundle: DatasetBundle) -> None:
    total = len(bundle.train) + len(bundle.holdout) + len(bundle.test)
    click.echo(f"{total:,} pairs: {len(bundle.train):,} train, {len(bundle.holdout):,} holdout, {len(bundle.test):,} test")
    for task in bundle.tasks:
        sizes = f"{len(task.train_labels):,} train, {len(task.test_labels):,} test"
        click.echo(f"task {task.name}: {len(task.vocabulary.names)} classes, {sizes}")
    for fact, value in bundle.facts.items():
        if not fact.startswith("skipped_"):
            shown = f"{value:,}" if isinstance(value, int) else value
            click.echo(f"{fact.replace('_', ' ')}: {shown}")


def _print_findings(findings: Findings, damaged: list[str] | None, only_found: bool = False) -> None:
    for kind in dict.fromkeys(("missing", "unreadable", "duplicate", "captionless", *findings.counts)):
        count = findings.counts[kind]
        if only_found and not count:
            continue
        unknown = kind == "unreadable" and damaged is None and not count
        click.echo(f"{kind}: {'not checked, see --decode' if unknown else f'{count:,}'}")
        for problem in damaged if damaged and kind == "unreadable" else [findings.first.get(kind, "")] if count else []:
            if problem:
                click.echo(f"  {problem}")
