"""`bench evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import (
    device_option,
    out_option,
    plugin_option,
    precision_option,
    pretrained_option,
    recipe_option,
)


@click.command("evaluate")
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Safetensors, or a state dict or checkpoint of torch.save; pickled code is never run.",
)
@click.option("--model", metavar="NAME", help="Architecture, from `bench list models`; by default the recipe's.")
@click.option("--name", metavar="NAME", help="Name in tables if there are several; by default the file's name.")
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A checkpoint trained without poison, for the ASR floor; by default plain CLIP in --out.",
)
@click.option(
    "--attack",
    default="none",
    show_default=True,
    metavar="NAME",
    help="The attack whose probes are used; none measures utility alone.",
)
@click.option(
    "--poison",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder of `bench poison`; its attack, data, options and seed are used.",
)
@click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Data set.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the data set; or --data NAME:DIR.")
@click.option(
    "--downstream-root", type=click.Path(path_type=Path), metavar="DIR", help="Measure on the downstream sets in DIR/NAME too."
)
@click.option(
    "--evaluator",
    multiple=True,
    default=("asr,zero_shot,linear_probe",),
    show_default=True,
    metavar="LIST",
    help="Names from `bench list`, or all.",
)
@recipe_option
@pretrained_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the poison.")
@click.option("--set", multiple=True, metavar="PATH=VALUE", help="Set an option, e.g. attack.rate=0.002; repeatable.")
@plugin_option
@out_option
@device_option
@precision_option
def command(weights: Path, **given: Any) -> None:
    """Measure a CLIP that was trained elsewhere, as a row "external" of the tables.

    It is measured on the probes of the cells of `bench run` with the same data, model, recipe and options. That it was trained
    on that poison is your claim; nothing here can check it.

    \b
    bench evaluate --weights epoch_10.pt --model RN50-quickgelu --attack badnet --data cc3m:/data/cc3m
    bench evaluate --weights model.safetensors --model small-64 --poison export/ --out results
    """
    import bench

    bench.evaluate_checkpoint(weights, **given)
