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
    help="Tables and figures of papers, e.g. table1,figure2, suite files, or all.",
)
@click.option("--data", metavar="NAME", help="Pre-training data set, by default scenes; with --suite, replaces the paper's.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the data set; or --data NAME:DIR.")
@click.option(
    "--downstream-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also evaluate on the downstream sets in DIR/NAME, e.g. DIR/cifar10.",
)
@click.option(
    "--evaluator",
    multiple=True,
    default=("asr,zero_shot,linear_probe",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@click.option("--model", metavar="NAME", help="From `bench list models`; by default the recipe's.")
@pretrained_option
@recipe_option
@click.option("--seeds", multiple=True, default=["0"], show_default=True, metavar="LIST", help="Integers, e.g. 0,1,2.")
@click.option(
    "--set",
    multiple=True,
    metavar="PATH=VALUE",
    help="Set an option, e.g. train.epochs=2; repeatable. `bench describe NAME` shows a plugin's options.",
)
@plugin_option
@out_option
@device_option
@precision_option
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Options as TOML, e.g. requests/KEY.toml of a results folder; the command line overrides them.",
)
@click.option(
    "--jobs",
    metavar="N",
    help="Cells in parallel; auto, the default: one per CPU core, on one thread each, or one per GPU.",
)
@click.option("--shard", metavar="I/N", help="Run the I-th of N parts of the matrix, from 1: for job arrays.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray", "submitit"]),
    default="local",
    show_default=True,
    help="Run cells on this machine, on Ray, or as Slurm jobs through submitit.",
)
@click.option("--ray-address", metavar="ADDRESS", help="auto (the cluster of this machine), local, or HOST:PORT.")
@click.option(
    "--cpus-per-cell", type=click.IntRange(min=1), metavar="N", help="CPU cores per cell, with --executor ray; by default 1."
)
@click.option(
    "--gpus-per-cell", type=click.FloatRange(min=0), metavar="N", help="GPUs per cell, with --executor ray; by default 0."
)
@click.option(
    "--slurm",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a parameter of the jobs, with --executor submitit, e.g. partition=gpu; repeatable.",
)
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "wandb"]),
    help="Also log the curves to the folder track of --out; wandb is offline.",
)
@click.option("--controls", is_flag=True, help="For each defended cell, also plain CLIP with as many steps and pairs.")
@click.option(
    "--grad-checkpointing",
    is_flag=True,
    help="Activation checkpointing in towers without batch normalisation: less memory, more time, the same numbers.",
)
@click.option(
    "--deterministic", is_flag=True, help="PyTorch's deterministic algorithms: runs repeat exactly on a GPU too, but slower."
)
@click.option("--dry-run", is_flag=True, help="Print the cells, their state, and an estimate of time; train nothing.")
@click.option("--retry-failed", is_flag=True, help="Retry cells that failed before.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="MINUTES",
    help="Time between checkpoints; 0 writes one after every step.",
)
@click.pass_context
def command(context: click.Context, /, config: Path | None, **given: Any) -> int:
    """Train and evaluate a matrix of attacks x defenses, then print the table.

    A LIST is comma-separated, and its option can be repeated.

    Without options: plain CLIP against BadNet and TDPA on the embedded data set, a few minutes on two cores. Ctrl-C
    stops; the same command resumes.

    \b
    bench run --defense all --attack all --seeds 0,1,2
    bench run --data mscoco --data-root /data/coco --model RN50
    bench run --set attack.rate=0.002 --set train.epochs=4
    bench run --data csv:pairs.csv --recipe small
    bench run --suite table1 --data scenes --dry-run
    bench run --config experiment.toml --seeds 0,1,2
    bench run --seeds 0,1,2 --shard 2/3
    bench run --seeds 0,1,2 --executor ray --gpus-per-cell 1
    bench run --seeds 0,1,2 --executor submitit --slurm gpus_per_node=1
    """
    import bench

    given_options = {
        name: value for name, value in given.items() if context.get_parameter_source(name) != ParameterSource.DEFAULT
    }
    if config:
        from_file = bench.load_config(config)
        if "set" in given_options:
            given_options["set"] = (*from_file.get("set", ()), *given_options["set"])
        given_options = from_file | given_options
    return 1 if bench.run(**given_options).failed else 0
