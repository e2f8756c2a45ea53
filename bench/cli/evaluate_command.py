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
    help="Safetensors, or a state dict or checkpoint that torch.save wrote; no pickle in it is run.",
)
@click.option("--model", metavar="NAME", help="Its architecture, from `bench list models`; by default the recipe's.")
@click.option("--name", metavar="NAME", help="What tables call it where there are several; by default the file's name.")
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A checkpoint trained without poison, for the floor of the ASR; by default plain CLIP of --out.",
)
@click.option("--attack", default="none", show_default=True, metavar="NAME", help="Whose probes to measure on.")
@click.option(
    "--poison",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="An exported poisoned set, whose attack, data, options and seed are taken.",
)
@click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Data set.")
@click.option(
    "--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where the data set lies; or --data NAME:DIR."
)
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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the poison.")
@click.option("--set", multiple=True, metavar="PATH=VALUE", help="Change an option, e.g. attack.rate=0.002; repeatable.")
@plugin_option
@out_option
@device_option
@precision_option
def command(weights: Path, **given: Any) -> None:
    """Measure a CLIP that was trained elsewhere, and put it in the tables as "external".

    It stands beside the cells of `bench run` with the same data, model, recipe and options, and is measured on their probes.
    That it was trained on that poison is what you say; nothing here knows.

    \b
    bench evaluate --weights epoch_10.pt --model RN50-quickgelu --attack badnet --data cc3m:/data/cc3m
    bench evaluate --weights model.safetensors --model small-64 --poison export/ --out results
    """
    import bench

    bench.evaluate_checkpoint(weights, **given)
