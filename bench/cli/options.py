"""Option types and options that commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from bench.errors import UserError

OUT = Path("results")


def names(values: Sequence[str]) -> list[str]:
    """Comma lists and repeats, flattened, without repetitions."""
    return list(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def some_names(option: str, values: Sequence[str]) -> list[str]:
    """The names of an option that needs one. Raises UserError when there is none."""
    found = names(values)
    if not found:
        raise UserError(f"{option} is empty: give one name or a comma list of them")
    return found


def seeds(values: Sequence[str]) -> list[int]:
    try:
        found = [int(name) for name in some_names("--seeds", values)]
    except ValueError:
        raise UserError(f"--seeds {','.join(values)}: write whole numbers, for example --seeds 0,1,2") from None
    if any(seed < 0 for seed in found):
        raise UserError(f"--seeds {','.join(values)}: seeds are not negative")
    return found


def output_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Callback of an option that names a file to write. Raises UserError before any work where it cannot be written."""
    if path is None:
        return None
    problem = None
    if path.is_dir():
        problem = "is a folder; name a file in it"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}; create it first, or choose another"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "cannot be written (no permission); choose another file"
    if problem:
        raise UserError(f"{option.opts[0]} {path}: {problem}")
    return path


def data_and_root(data: str, root: Path | None) -> tuple[str, Path | None]:
    """NAME and where it lies; NAME:PLACE says both. Raises UserError when the place is given twice."""
    name, colon, place = data.partition(":")
    if not colon:
        return name, root
    if not place or root is not None:
        raise UserError(f"--data {data}: say once where {name} lies, here or with --data-root")
    return name, Path(place)


recipe_option = click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="In place of the data set's recipe: one of `bench list recipes`, e.g. small, or a TOML file; --set wins.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a GPU where there is one.",
)
precision_option = click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="auto: the recipe's."
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=OUT, show_default=True, metavar="DIR", help="Results folder."
)
plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="Load plugins from a Python file (runs its code); repeatable.",
)


def load_plugins(files: Sequence[str]) -> None:
    """Fill the registries; a plugin that fails is told on standard error and otherwise left out."""
    from bench import plugins

    for broken in plugins.load(files):
        click.echo(f"bench: warning: {broken.origin} was not loaded ({broken.error}); `bench list` shows more", err=True)
