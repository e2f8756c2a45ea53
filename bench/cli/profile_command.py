"""`bench profile`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench.cli.options import device_option, output_file, plugin_option, precision_option, recipe_option
from bench.console import say
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.interface.values import data_and_root, some_names

if TYPE_CHECKING:
    from bench.matrix.expand import Cell, Matrix


@dataclass(frozen=True)
class _Options:
    """The options as click gives them."""

    data: str
    data_root: Path | None
    defenses: tuple[str, ...]
    attack: str
    model: str | None
    recipe: str | None
    steps: int
    epochs: int | None
    sizes: tuple[str, ...]
    options: tuple[str, ...]
    plugin: tuple[str, ...]
    device: str
    precision: str
    out: Path | None
    trace: Path | None


@click.command("profile")
@click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Data set.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where the data set lies; or --data NAME:DIR."
)
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    default=["clip,safeclip"],
    show_default=True,
    metavar="LIST",
    help="Names from `bench list` with commas between, or all.",
)
@click.option("--attack", default="none", show_default=True, metavar="NAME", help="What poisons the data, or none.")
@click.option("--model", metavar="NAME", help="From `bench list models`; by default the recipe of the data set says which.")
@recipe_option
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Steps measured of each phase.")
@click.option("--epochs", type=click.IntRange(min=1), help="Whole epochs measured of each phase, in place of --steps.")
@click.option(
    "--sizes",
    multiple=True,
    metavar="LIST",
    help="Sizes of the training set, e.g. 16k,64k,256k (k is 1,024): show whether cost grows linearly.",
)
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Change an option, e.g. train.batch_size=64.")
@plugin_option
@device_option
@precision_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Write the figures as JSON too.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Write a Chrome trace of three steps a phase.",
)
def command(**given: Any) -> None:
    """Measure where the time of a training goes; no record is written.

    Trains a few steps of each phase of each defense and predicts the whole run from the numbers of pairs in its phases: pairs
    per second, seconds and their shares by stage, peak memory, FLOP/s against a matrix product on this machine. docs/speed.md
    says how to read it.

    \b
    bench profile --defense clip,safeclip --trace trace.json
    bench profile --sizes 16k,64k,256k --defense clip,roclip,cleanclip,safeclip
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when torch is loaded; a machine without GPU is no error
    asked = _Options(**given)
    load_plugins(asked.plugin)
    from bench.matrix.device import device_of
    from bench.matrix.expand import UNDEFENDED, choose
    from bench.profiling.measure import Limit
    from bench.profiling.profile import Profile, profile
    from bench.profiling.table import print_profile, print_sizes, size_line
    from bench.profiling.trace import traced, write_trace
    from bench.registry import defenses

    chosen = [entry.plugin.name for entry in choose(defenses, some_names("--defense", asked.defenses))]
    sizes = _sizes(asked.sizes)
    wanted = chosen if sizes else list(dict.fromkeys([UNDEFENDED, *chosen]))
    device, limit, console = device_of(asked.device), Limit(asked.steps, asked.epochs), Console()
    events: list[dict[str, Any]] = []
    found: list[Profile] = []
    for matrix in _matrices(asked, wanted, sizes):
        for name in wanted:
            then = (lambda trainer, phases: events.extend(traced(trainer, phases))) if asked.trace and name in chosen else None
            with console.status(f"profiling {name}"):
                found.append(profile(_cell(matrix, name, asked.attack), matrix.workspace, device, limit, then))
            if sizes:
                say(console, size_line(found[-1]))
            elif name in chosen:
                print_profile(found[-1], found[0], console)
    if sizes:
        print_sizes(found, console)
    if asked.out:
        _write(found, asked.out)
    if asked.trace:
        write_trace(events, asked.trace)
        say(console, f"Trace: {asked.trace}")


def _matrices(asked: _Options, defenses: Sequence[str], sizes: Sequence[int]) -> Iterator[Matrix]:
    """One for each size of the training set, or a single one of the size that it has."""
    from bench.matrix.expand import Request, expand

    data, data_root = data_and_root(asked.data, asked.data_root)
    request = Request(
        data=data,
        attacks=[asked.attack],
        defenses=defenses,
        data_root=data_root,
        model=asked.model,
        recipe=asked.recipe,
        precision=None if asked.precision == "auto" else asked.precision,
        options=asked.options,
    )
    if not sizes:
        yield expand(request)
    for size in sizes:
        yield expand(replace(request, options=[*asked.options, f"data.train={size}"]))


def _cell(matrix: Matrix, defense: str, attack: str) -> Cell:
    for cell in matrix.cells:
        own = cell.spec.attack.name if cell.spec.attack else "none"
        if (cell.spec.defense.name, own) == (defense, attack):
            if cell.unsupported:
                raise UserError(f"{cell.title}: {cell.unsupported}")
            return cell
    raise LookupError(f"no cell of {defense} and {attack}")


def _sizes(values: Sequence[str]) -> list[int]:
    if not values:
        return []
    found = []
    for text in some_names("--sizes", values):
        if not (parts := re.fullmatch(r"([1-9]\d*)(k?)", text.lower())):
            raise UserError(f"--sizes {text}: write a number of pairs, for example 16k or 20000")
        found.append(int(parts[1]) * (1024 if parts[2] else 1))
    return found


def _write(found: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        path.write_text(json.dumps({"profiles": list(found)}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); choose another file") from None
