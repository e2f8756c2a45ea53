"""`bench run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench import keys
from bench.cli import execute
from bench.cli.options import data_and_root, load_plugins, names, out_option, plugin_option, seeds, some_names
from bench.cluster.place import Order, Place
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.matrix.expand import Matrix

Work = tuple[Sequence["Matrix"], Sequence[dict[str, Any]]]
_DEFAULTS = {"attacks": ("badnet,tdpa",), "defenses": ("clip",), "evaluators": ("asr,zero_shot,linear_probe",)}


@click.command("run")
@click.option(
    "--defense", "defenses", multiple=True, default=_DEFAULTS["defenses"], show_default=True, metavar="LIST", help="Or all."
)
@click.option(
    "--attack", "attacks", multiple=True, default=_DEFAULTS["attacks"], show_default=True, metavar="LIST", help="Or all, none."
)
@click.option("--suite", "suites", multiple=True, metavar="LIST", help="Tables and figures of the paper, e.g. table1. Or all.")
@click.option("--data", metavar="NAME", help="Pre-training data set, scenes by default; with --suite in place of the paper's.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where the data set lies; or --data NAME:DIR."
)
@click.option(
    "--downstream-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Evaluate on the downstream sets in DIR/NAME too, e.g. DIR/cifar10.",
)
@click.option(
    "--evaluator",
    "evaluators",
    multiple=True,
    default=_DEFAULTS["evaluators"],
    show_default=True,
    metavar="LIST",
    help="Or all.",
)
@click.option("--model", metavar="NAME", help="open_clip architecture; the data set's recipe by default.")
@click.option("--seeds", "seed_list", multiple=True, default=["0"], show_default=True, metavar="LIST", help="E.g. 0,1,2.")
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Change an option, e.g. train.epochs=2.")
@plugin_option
@out_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="auto: the recipe's."
)
@click.option("--shard", metavar="I/N", help="Do the I-th of N parts of the matrix, counted from 1: for job arrays.")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray-address", metavar="ADDRESS", help="auto (a cluster that this machine is part of), local, or HOST:PORT.")
@click.option("--cpus-per-cell", type=click.IntRange(min=1), metavar="N", help="With --executor ray; 1 by default.")
@click.option("--gpus-per-cell", type=click.FloatRange(min=0), metavar="N", help="With --executor ray; 0 by default.")
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "wandb"]),
    help="Write the curves for it too, in DIR/track of --out; wandb stays offline.",
)
@click.option("--dry-run", is_flag=True, help="Show the cells, what is on record, and an estimate of time; train nothing.")
@click.option("--retry-failed", is_flag=True, help="Try cells again that failed before.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="MINUTES",
    help="Time between checkpoints; 0 is one after every step.",
)
def command(
    defenses: tuple[str, ...],
    attacks: tuple[str, ...],
    suites: tuple[str, ...],
    data: str | None,
    data_root: Path | None,
    downstream_root: Path | None,
    evaluators: tuple[str, ...],
    model: str | None,
    seed_list: tuple[str, ...],
    options: tuple[str, ...],
    plugins: tuple[str, ...],
    out: Path,
    device: str,
    precision: str,
    shard: str | None,
    executor: str,
    ray_address: str | None,
    cpus_per_cell: int | None,
    gpus_per_cell: float | None,
    track: str | None,
    dry_run: bool,
    retry_failed: bool,
    checkpoint_minutes: float,
) -> int:
    """Train and evaluate a matrix of attacks x defenses, then show the table.

    Options that take a LIST take names with commas between, and can be repeated.

    With no option: plain CLIP against BadNet and TDPA on the embedded data set, a few minutes on two cores. Ctrl-C
    stops; the same command goes on from there.

    \b
    bench run --defense all --attack all --seeds 0,1,2
    bench run --data mscoco --data-root /data/coco --model RN50
    bench run --set attack.rate=0.002 --set train.epochs=4
    bench run --suite table1 --data scenes --dry-run
    bench run --seeds 0,1,2 --shard 2/3
    bench run --seeds 0,1,2 --executor ray --gpus-per-cell 1
    """
    place = Place.of(executor, ray_address, cpus_per_cell, gpus_per_cell)
    load_plugins(plugins)
    from bench.matrix.device import device_of
    from bench.matrix.shard import Shard
    from bench.matrix.store import Store
    from bench.matrix.tracking import require
    from bench.training import ranks as processes

    if track:
        require(track)
    part = Shard.parse(shard or "1/1")
    target = device_of("auto" if place else device)
    ranks = processes.join(target)
    if place and ranks.count > 1:
        raise UserError("torchrun and --executor ray exclude each other: a cell on Ray is one process")
    console = Console(quiet=not ranks.first)
    wanted = names(suites)
    if data:
        data, data_root = data_and_root(data, data_root)
    if wanted:
        _refuse_with_suites(attacks=attacks, defenses=defenses)
    shared: dict[str, Any] = {
        "evaluators": names(evaluators),
        "seeds": seeds(seed_list),
        "data_root": data_root,
        "downstream_root": downstream_root,
        "model": model,
        "precision": None if precision == "auto" else precision,
        "options": options,
    }
    if wanted:
        matrices, requests = _of_suites(wanted, data, shared, console)
    else:
        matrices, requests = _of_options(
            data or "scenes", some_names("--attack", attacks), some_names("--defense", defenses), shared
        )
    matrices = part.of(matrices)
    for matrix in matrices:
        for line in _downstream_lines(matrix):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run and ranks.first:
        execute.show_plan(matrices, Store.open(out) if out.is_dir() else None, target, retry_failed, console)
    if dry_run:
        return 0
    seconds = 60 * checkpoint_minutes
    if not ranks.first:
        status = execute.along(matrices, Store(out), target, seconds, ranks, console)
    else:
        store = Store.create(out)
        if place is None:
            finish = partial(execute.locally, matrices, store, target, retry_failed, seconds, ranks, track, console)
        else:
            order = Order(
                store=store.root.absolute(),
                request=keys.digest(requests[0]),
                plugins=tuple(str(Path(file).absolute()) for file in plugins),
                device="cpu" if device == "auto" and not place.gpus else device,
                threads=place.cpus,
                retry_failed=retry_failed,
                checkpoint_seconds=seconds,
                command=tuple(sys.argv[1:]),
                track=track,
            )
            finish = partial(execute.on_cluster, matrices, store, place, order, console)
        status = execute.run(requests, store, console, finish)
    processes.leave()
    return status


def _of_options(data: str, attacks: list[str], defenses: list[str], shared: dict[str, Any]) -> Work:
    from bench.matrix.expand import Request, expand

    matrix = expand(Request(data=data, attacks=attacks, defenses=defenses, **shared))
    return [matrix], [matrix.as_request()]


def _of_suites(wanted: list[str], data: str | None, shared: dict[str, Any], console: Console) -> Work:
    """The matrices of suites; says which arms cannot be run, and why."""
    from bench.matrix.suites import SuiteRequest, expand_suites
    from bench.suites.suite import chosen

    plan = expand_suites(SuiteRequest(suites=chosen(wanted), data=data, **shared))
    for each in plan.suites:
        count = f"{len(each.cells)} cells" if each.suite.arms() else "nothing to run"
        console.print(f"{each.suite.name}: {each.suite.title}: {count}", markup=False, highlight=False, soft_wrap=True)
        for reason in dict.fromkeys(each.reasons.values()):
            arms = sum(reason == other for other in each.reasons.values())
            console.print(f"    {arms} without runs: {reason}", markup=False, highlight=False, soft_wrap=True)
    return plan.matrices, plan.requests


def _downstream_lines(matrix: Matrix) -> list[str]:
    """The sets of --downstream-root, those that are left out and why, and those that are not whole."""
    sets = matrix.workspace.downstream
    lines = [f"downstream: {', '.join(sets.fingerprints)}"] if sets.tasks else []
    for reason in dict.fromkeys(sets.skipped.values()):
        lines.append(
            f"downstream, skipped: {', '.join(name for name, why in sets.skipped.items() if why == reason)} ({reason})"
        )
    return lines + [f"downstream, not whole: {name} ({lack})" for name, lack in sets.partial.items()]


def _refuse_with_suites(**given: tuple[str, ...]) -> None:
    for name, values in given.items():
        if values != _DEFAULTS[name]:
            raise UserError(f"--{name.removesuffix('s')} and --suite exclude each other: a suite names its own {name}")
