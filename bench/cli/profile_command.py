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
from bench.console import print_plain
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.interface.values import require_names, split_data_root

if TYPE_CHECKING:
    from bench.matrix.expand import Cell, Matrix


@dataclass(frozen=True)
class _Options:
    """The command's options."""

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
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the data set; or --data NAME:DIR.")
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    default=["clip,safeclip"],
    show_default=True,
    metavar="LIST",
    help="Comma-separated names from `bench list`, or all.",
)
@click.option("--attack", default="none", show_default=True, metavar="NAME", help="Attack, or none.")
@click.option("--model", metavar="NAME", help="From `bench list models`; by default the recipe's.")
@recipe_option
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Measured steps per phase.")
@click.option("--epochs", type=click.IntRange(min=1), help="Measured epochs per phase, instead of --steps.")
@click.option(
    "--sizes",
    multiple=True,
    metavar="LIST",
    help="Training set sizes, e.g. 16k,64k,256k (k = 1,024): shows how cost scales.",
)
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Set an option, e.g. train.batch_size=64.")
@plugin_option
@device_option
@precision_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Also write the numbers as JSON.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="Write a Chrome trace of three steps per phase.",
)
def command(**given: Any) -> None:
    """Profile the training of defenses; no record is written.

    Trains a few steps of each phase and extrapolates to the whole run: pairs per second, time by stage, peak memory, and FLOP/s
    relative to a matrix product on this machine. See docs/speed.md.

    \b
    bench profile --defense clip,safeclip --trace trace.json
    bench profile --sizes 16k,64k,256k --defense clip,roclip,cleanclip,safeclip
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when torch is imported; silences a machine without GPU
    options = _Options(**given)
    load_plugins(options.plugin)
    from bench.matrix.device import device_of
    from bench.matrix.expand import UNDEFENDED, select_plugins
    from bench.profiling.measure import StepLimit
    from bench.profiling.profile import Profile, profile
    from bench.profiling.table import print_profile, print_sizes, size_line
    from bench.profiling.trace import traced, write_trace
    from bench.registry import defenses

    chosen = [entry.plugin.name for entry in select_plugins(defenses, require_names("--defense", options.defenses))]
    sizes = _sizes(options.sizes)
    wanted = chosen if sizes else list(dict.fromkeys([UNDEFENDED, *chosen]))
    device, limit, console = device_of(options.device), StepLimit(options.steps, options.epochs), Console()
    events: list[dict[str, Any]] = []
    found: list[Profile] = []
    for matrix in _matrices(options, wanted, sizes):
        for name in wanted:
            then = (
                (lambda trainer, phases: events.extend(traced(trainer, phases))) if options.trace and name in chosen else None
            )
            with console.status(f"profiling {name}"):
                found.append(profile(_cell(matrix, name, options.attack), matrix.workspace, device, limit, then))
            if sizes:
                print_plain(console, size_line(found[-1]))
            elif name in chosen:
                print_profile(found[-1], found[0], console)
    if sizes:
        print_sizes(found, console)
    if options.out:
        _write(found, options.out)
    if options.trace:
        write_trace(events, options.trace)
        print_plain(console, f"Trace: {options.trace}")


def _matrices(options: _Options, defenses: Sequence[str], sizes: Sequence[int]) -> Iterator[Matrix]:
    """A matrix for each training set size, or one for the default size."""
    from bench.interface.precision import resolve
    from bench.matrix.device import device_of
    from bench.matrix.expand import MatrixRequest, expand

    data, data_root = split_data_root(options.data, options.data_root)
    request = MatrixRequest(
        data=data,
        attacks=[options.attack],
        defenses=defenses,
        data_root=data_root,
        model=options.model,
        recipe=options.recipe,
        precision=resolve(options.precision, options.options, device_of(options.device)),
        options=options.options,
    )
    if not sizes:
        yield expand(request)
    for size in sizes:
        yield expand(replace(request, options=[*options.options, f"data.train={size}"]))


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
    for text in require_names("--sizes", values):
        if not (parts := re.fullmatch(r"([1-9]\d*)(k?)", text.lower())):
            raise UserError(f"--sizes {text}: expected a number of pairs, for example 16k or 20000")
        found.append(int(parts[1]) * (1024 if parts[2] else 1))
    return found


def _write(found: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        path.write_text(json.dumps({"profiles": list(found)}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {path}: not writable ({error.strerror}); choose another file") from None
