"""`bench profile`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench.cli.options import load_plugins, plugin_option, some_names
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.matrix.expand import Matrix


@click.command("profile")
@click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Data set.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where the data set lies.")
@click.option(
    "--defense", "defenses", multiple=True, default=["clip,safeclip"], show_default=True, metavar="LIST", help="Or all."
)
@click.option("--attack", default="none", show_default=True, metavar="NAME")
@click.option("--model", metavar="NAME", help="open_clip architecture; the data set's recipe by default.")
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
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures as JSON too.")
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE", help="Write a Chrome trace of three steps a phase.")
def command(
    data: str,
    data_root: Path | None,
    defenses: tuple[str, ...],
    attack: str,
    model: str | None,
    steps: int,
    epochs: int | None,
    sizes: tuple[str, ...],
    options: tuple[str, ...],
    plugins: tuple[str, ...],
    device: str,
    precision: str,
    out: Path | None,
    trace: Path | None,
) -> None:
    """Measure where the time of a training goes; no record is written.

    Trains a few steps of each phase of a defense and foretells the whole run from the numbers of pairs in its phases: pairs
    per second, seconds and their shares by stage, peak memory, FLOP/s against a matrix product on this machine. Every pair is
    scored once. A defense that splits the pairs by similarity does so here with a model hardly trained. Of scoring, the forward
    passes are told apart; the share outside forward, backward and optimiser is given with and without them.

    On a GPU each stage is waited for, so the parts are exact and their sum is somewhat more than an undisturbed run.

    \b
    bench profile --defense clip,safeclip --trace trace.json
    bench profile --sizes 16k,64k,256k --defense clip,roclip,cleanclip,safeclip
    """
    from bench.matrix.device import device_of

    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read when torch is loaded; a machine without GPU is no error
    load_plugins(plugins)
    from bench.matrix.expand import UNDEFENDED, Request, choose, expand
    from bench.profiling.measure import Limit
    from bench.profiling.profile import Profile, profile
    from bench.profiling.table import print_profile, print_sizes
    from bench.profiling.trace import traced, write_trace
    from bench.registry import defenses as registry

    chosen = [entry.plugin.name for entry in choose(registry, some_names("--defense", defenses))]
    wanted = list(dict.fromkeys([UNDEFENDED, *chosen])) if not sizes else chosen
    request: dict[str, Any] = {
        "data": data,
        "attacks": [attack],
        "defenses": wanted,
        "data_root": data_root,
        "model": model,
        "precision": None if precision == "auto" else precision,
    }
    target, limit, console = device_of(device), Limit(steps, epochs), Console()
    events: list[dict[str, Any]] = []
    found: list[Profile] = []
    for extra in [[f"data.train={size}"] for size in _sizes(sizes)] or [[]]:
        matrix = expand(Request(**request, options=[*options, *extra]))
        for name in wanted:
            with console.status(f"profiling {name}"):
                then = (lambda trainer, phases: events.extend(traced(trainer, phases))) if trace and name in chosen else None
                found.append(profile(_cell(matrix, name, attack), matrix.workspace, target, limit, then))
            if not sizes and name in chosen:
                print_profile(found[-1], found[0], console)
    if sizes:
        print_sizes(found, console)
    if out:
        _write(found, out)
    if trace:
        write_trace(events, trace)
        console.print(f"Trace: {trace}", markup=False, highlight=False, soft_wrap=True)


def _cell(matrix: Matrix, defense: str, attack: str) -> Any:
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
