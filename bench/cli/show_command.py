"""`bench show`."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import (
    data_option,
    data_root_option,
    image_model_option,
    out_option,
    output_file,
    plugin_option,
    poison_seed_option,
    recipe_option,
)
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.interface.values import split_data_root

if TYPE_CHECKING:
    import torch

    from bench.api import Poison

_COLUMNS = 6
_GAIN = 4


@click.command("show")
@click.argument("attack")
@data_option
@data_root_option
@image_model_option
@recipe_option
@poison_seed_option
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Set an option, e.g. attack.patch=32.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    callback=output_file,
    metavar="FILE",
    help="PNG file; by default ATTACK-DATA.png.",
)
@plugin_option
@out_option
def command(
    attack: str,
    data: str,
    data_root: Path | None,
    model: str | None,
    recipe: str | None,
    seed: int,
    options: tuple[str, ...],
    picture: Path | None,
    plugin: tuple[str, ...],
    out: Path,
) -> None:
    """Plot an attack's poisons: clean image, poisoned image, and amplified difference.

    Prints the PSNR of the poisoned images and the hash of the poison manifest. An attack that is optimised against a surrogate
    needs that model on record in --out. Requires matplotlib, the extra [plot].
    """
    _pyplot()
    load_plugins(plugin)
    from bench.data.poisoned import edited
    from bench.export.command import craft
    from bench.interface.precision import resolve
    from bench.matrix.device import device_of
    from bench.matrix.expand import MatrixRequest, expand

    data, data_root = split_data_root(data, data_root)
    request = MatrixRequest(data=data, attacks=[attack], defenses=["clip"], seeds=[seed], data_root=data_root, options=options)
    precision = resolve("auto", options, device_of("auto"))
    matrix = expand(replace(request, model=model, recipe=recipe, precision=precision))
    cell = matrix.cells[-1]
    if cell.surrogate is not None:
        craft(matrix.workspace, cell, out)
    method, plan, _ = matrix.workspace.poison(cell.spec)
    shown = list({(poison.split, poison.index): poison for poison in plan.poisons}.values())[:_COLUMNS]
    bundle = matrix.workspace.bundle
    pairs = {"train": bundle.train, "holdout": bundle.holdout}
    clean = [edited(pairs[poison.split].images, [poison.index], [None], None, None) for poison in shown]
    poisoned = [edited(pairs[poison.split].images, [poison.index], [poison.edit], method, plan) for poison in shown]
    path = picture or Path(f"{attack}-{data}.png")
    _draw(clean, poisoned, shown, f"{attack} on {data}, seed {seed}", path)
    click.echo(f"{path}: {len(shown)} of {len(plan.poisons)} poisons, target {', '.join(dict.fromkeys(plan.targets))}")
    click.echo(f"PSNR {_psnr(clean, poisoned)}, manifest {plan.hash()}")


def _psnr(clean: list[torch.Tensor], poisoned: list[torch.Tensor]) -> str:
    import torch

    error = (torch.cat(clean).float() - torch.cat(poisoned).float()).square().mean()
    return "infinite (pixels unchanged)" if error == 0 else f"{float(10 * torch.log10(255**2 / error)):.1f} dB"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UserError("matplotlib is not installed; pip install 'clip-poison-bench[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _draw(clean: list[torch.Tensor], poisoned: list[torch.Tensor], shown: list[Poison], title: str, path: Path) -> None:
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(3, len(shown), figsize=(2 * len(shown), 6.6), squeeze=False, layout="constrained")
    figure.suptitle(title)
    for column, (before, after, poison) in enumerate(zip(clean, poisoned, shown, strict=True)):
        difference = (_GAIN * (after.float() - before.float()) + 127.5).clamp(0, 255).byte()
        for row, image in enumerate((before, after, difference)):
            axes[row, column].imshow(image[0].permute(1, 2, 0).numpy(), interpolation="nearest")
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
        axes[2, column].set_xlabel(textwrap.fill(textwrap.shorten(poison.caption, 90), 26), fontsize=8)
    for row, name in enumerate(("clean", "poisoned", f"difference x {_GAIN}")):
        axes[row, 0].set_ylabel(name)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise UserError(f"--picture {path}: not writable ({error.strerror}); choose another file") from None
    finally:
        pyplot.close(figure)
