"""`bench poison`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from bench.cli.options import (
    data_option,
    data_root_option,
    image_model_option,
    out_option,
    plugin_option,
    poison_seed_option,
    recipe_option,
)
from bench.console import print_plain
from bench.interface.plugins import load_plugins

if TYPE_CHECKING:
    from bench.export.export import Exported


@click.command("poison", short_help="Write a poisoned training set for another trainer.")
@click.option("--attack", required=True, metavar="NAME", help="Attack, or none for the clean training set.")
@data_option
@data_root_option
@image_model_option
@recipe_option
@poison_seed_option
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Set an option, e.g. attack.rate=0.002.")
@click.option("--format", type=click.Choice(["webdataset", "csv", "coco"]), default="webdataset", show_default=True)
@click.option("--jpeg", type=click.IntRange(1, 100), metavar="QUALITY", help="JPEG in place of PNG, which keeps every pixel.")
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder to write, a new one.")
@plugin_option
@out_option
def command(
    attack: str,
    data: str,
    data_root: Path | None,
    model: str | None,
    recipe: str | None,
    seed: int,
    options: tuple[str, ...],
    format: str,
    jpeg: int | None,
    to: Path,
    plugin: tuple[str, ...],
    out: Path,
) -> None:
    """Write the poisoned training set of an attack as another trainer reads it, with its manifest and its probes or queries.

    Pairs are those of the cells of `bench run` with the same options and seed, in their order, at the model's image size. Which
    are poisoned stands in poison.json and export.json alone. An attack that is optimised against a surrogate needs that model
    on record in --out.
    """
    load_plugins(plugin)
    from bench.export.command import poison
    from bench.interface.options import RunOptions

    given = {"data_root": data_root, "model": model, "recipe": recipe}
    asked = RunOptions.of(
        {
            "attack": attack,
            "defense": "clip",
            "data": data,
            "seeds": seed,
            "set": options,
            "plugin": plugin,
            **{name: value for name, value in given.items() if value is not None},
        }
    )
    console = Console(stderr=True)
    _tell(to, poison(asked, to, format, jpeg, out, console), jpeg, format)


def _tell(to: Path, done: Exported, jpeg: int | None, format: str) -> None:
    console = Console()
    measured = f"{done.queries:,} queries" if done.queries else f"{done.probes:,} probes"
    print_plain(console, f"{to}: {done.pairs:,} pairs as {format}, {done.poisons:,} of them poisoned, and {measured}")
    if done.hash:
        print_plain(console, f"manifest {done.hash}")
    if done.jpeg:
        lost = f"an error of {done.jpeg.error:.1f} grey levels where it has {done.jpeg.rms:.1f} (root mean squares)"
        print_plain(
            console, f"JPEG {jpeg} leaves {100 * done.jpeg.kept:.0f}% of the trigger, with {lost}; PNG leaves all of it"
        )
