"""Options shared by commands."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bench.errors import UserError

OUT = Path("results")


def output_file(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Callback of an option for an output file. Raises UserError at once if it is not writable."""
    if path is None:
        return None
    problem = None
    if path.is_dir():
        problem = "is a folder; give a file in it"
    elif not path.parent.is_dir():
        problem = f"folder {path.parent} does not exist; create it or choose another"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "is not writable; choose another file"
    if problem:
        raise UserError(f"{option.opts[0]} {path}: {problem}")
    return path


data_option = click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Data set.")
data_root_option = click.option(
    "--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the data set; or --data NAME:DIR."
)
image_model_option = click.option(
    "--model", metavar="NAME", help="Model, which determines the image size; by default the recipe's."
)
poison_seed_option = click.option("--seed", default=0, show_default=True, help="Seed of the poison.")
recipe_option = click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Instead of the data set's recipe: one of `bench list recipes`, e.g. small, or a TOML file; --set overrides it.",
)
pretrained_option = click.option(
    "--pretrained",
    metavar="TAG|FILE",
    help="Start every cell from these weights: a tag of open_clip such as openai, or a file of safetensors or of torch.save.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="auto (a GPU if there is one), cpu, cuda, cuda:N or mps.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto: the recipe's, but fp32 on a CPU without bf16 instructions; fp16, with gradient scaling, for GPUs without.",
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=OUT, show_default=True, metavar="DIR", help="Results folder."
)
plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE",
    help="Load plugins from a Python file (executes it); repeatable.",
)
