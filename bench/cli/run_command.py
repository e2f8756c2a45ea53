"""`bench run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench import keys
from bench.cli import execute
from bench.cli.dry_run import show_plan
from bench.cli.options import device_option, load_plugins, out_option, plugin_option, precision_option, recipe_option
from bench.cli.run_options import DEFAULT_ATTACKS, DEFAULT_DEFENSES, RunOptions
from bench.cli.work import Work, planned
from bench.cluster.place import Place
from bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from bench.training.ranks import Ranks


@click.command("run")
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    default=DEFAULT_DEFENSES,
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    default=DEFAULT_ATTACKS,
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all, or none.",
)
@click.option(
    "--suite", "suites", multiple=True, metavar="LIST", help="Tables and figures of the paper, e.g. table1,figure2, or all."
)
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
    default=("asr,zero_shot,linear_probe",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@click.option("--model", metavar="NAME", help="From `bench list models`; by default the recipe of the data set says which.")
@recipe_option
@click.option("--seeds", multiple=True, default=["0"], show_default=True, metavar="LIST", help="Whole numbers, e.g. 0,1,2.")
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Change an option, e.g. train.epochs=2.")
@plugin_option
@out_option
@device_option
@precision_option
@click.option(
    "--jobs",
    metavar="N",
    help="Cells side by side; auto, the default: as many as CPU cores, each on one thread, or one a GPU.",
)
@click.option("--shard", metavar="I/N", help="Do the I-th of N parts of the matrix, counted from 1: for job arrays.")
@click.option(
    "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Run cells here, or on Ray."
)
@click.option("--ray-address", metavar="ADDRESS", help="auto (a cluster that this machine is part of), local, or HOST:PORT.")
@click.option(
    "--cpus-per-cell", type=click.IntRange(min=1), metavar="N", help="CPU cores a cell, with --executor ray; 1 by default."
)
@click.option(
    "--gpus-per-cell", type=click.FloatRange(min=0), metavar="N", help="GPUs a cell, with --executor ray; 0 by default."
)
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "wandb"]),
    help="Write the curves for it too, in the folder track of --out; wandb stays offline.",
)
@click.option("--controls", is_flag=True, help="Beside each defended cell, plain CLIP with as many steps and pairs.")
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
def command(**given: Any) -> int:
    """Train and evaluate a matrix of attacks x defenses, then show the table.

    Options that take a LIST take names or numbers with commas between, and can be repeated.

    With no option: plain CLIP against BadNet and TDPA on the embedded data set, a few minutes on two cores. Ctrl-C
    stops; the same command goes on from there.

    \b
    bench run --defense all --attack all --seeds 0,1,2
    bench run --data mscoco --data-root /data/coco --model RN50
    bench run --set attack.rate=0.002 --set train.epochs=4
    bench run --data csv:pairs.csv --recipe small
    bench run --suite table1 --data scenes --dry-run
    bench run --seeds 0,1,2 --shard 2/3
    bench run --seeds 0,1,2 --executor ray --gpus-per-cell 1
    """
    asked = RunOptions(**given)
    place = Place.of(asked.executor, asked.ray_address, asked.cpus_per_cell, asked.gpus_per_cell)
    load_plugins(asked.plugins)
    from bench.jobs.share import parsed
    from bench.matrix.device import device_of
    from bench.matrix.tracking import require
    from bench.training import ranks as processes

    if (parsed(asked.jobs) or 1) > 1 and place:
        raise UserError(f"--jobs {asked.jobs}: --executor ray runs as many cells as --cpus-per-cell and --gpus-per-cell let it")
    if asked.track:
        require(asked.track)
    device = device_of("auto" if place else asked.device)
    ranks = processes.join(device)
    if place and ranks.count > 1:
        raise UserError("torchrun and --executor ray exclude each other: a cell on Ray is one process")
    console = Console(quiet=not ranks.first)
    work = planned(asked, console)
    if asked.dry_run:
        if ranks.first:
            show_plan(work.matrices, asked, device, console)
        return 0
    status = _settle(work, asked, device, place, ranks, console)
    processes.leave()
    return status


def _settle(work: Work, asked: RunOptions, device: torch.device, place: Place | None, ranks: Ranks, console: Console) -> int:
    from bench.matrix.store import Store

    if not ranks.first:
        return execute.along(work.matrices, Store(asked.out), asked, device, ranks, console)
    store = Store.create(asked.out)
    if place is None:
        finish = partial(execute.locally, work.matrices, store, asked, device, ranks, console)
    else:
        request = keys.digest(work.requests[0])
        finish = partial(execute.on_cluster, work.matrices, store, asked, place, request, console)
    return execute.run(work.requests, store, console, finish)
