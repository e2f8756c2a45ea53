"""`bench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bench.cli.options import device_option, out_option, plugin_option, precision_option, pretrained_option, recipe_option


@click.command("run")
@click.option(
    "--defense",
    multiple=True,
    default=("clip",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@click.option(
    "--attack",
    multiple=True,
    default=("badnet,tdpa",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all, or none.",
)
@click.option(
    "--suite",
    multiple=True,
    metavar="LIST",
    help="Tables and figures of papers, e.g. table1,figure2, or all, or files: mine.toml.",
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
    multiple=True,
    default=("asr,zero_shot,linear_probe",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@click.option("--model", metavar="NAME", help="From `bench list models`; by default the recipe of the data set says which.")
@pretrained_option
@recipe_option
@click.option("--seeds", multiple=True, default=["0"], show_default=True, metavar="LIST", help="Whole numbers, e.g. 0,1,2.")
@click.option(
    "--set",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change an option, e.g. train.epochs=2; repeatable. `bench describe NAME` shows those of a plugin.",
)
@plugin_option
@out_option
@device_option
@precision_option
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Options in TOML, e.g. requests/KEY.toml of a results folder; those given here win.",
)
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
@click.option(
    "--grad-checkpointing",
    is_flag=True,
    help="Activation checkpointing in towers without batch normalisation: less memory, more time, the same numbers.",
)
@click.option(
    "--deterministic", is_flag=True, help="Deterministic algorithms of PyTorch: exact repetition on a GPU too, slower."
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
@click.pass_context
def command(context: click.Context, config: Path | None, **given: Any) -> int:
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
    bench run --config experiment.toml --seeds 0,1,2
    bench run --seeds 0,1,2 --shard 2/3
    bench run --seeds 0,1,2 --executor ray --gpus-per-cell 1
    """
    import bench

    asked = {name: value for name, value in given.items() if context.get_parameter_source(name) != ParameterSource.DEFAULT}
    if config:
        below = bench.load_config(config)
        if "set" in asked:
            asked["set"] = (*below.get("set", ()), *asked["set"])
        asked = below | asked
    return 1 if bench.run(**asked).failed else 0
