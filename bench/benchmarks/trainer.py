"""Pairs per second of training from files, relative to open_clip's own trainer, on one core.

    python -m bench.benchmarks.trainer --model small-64
    python -m bench.benchmarks.trainer --data mscoco --data-root /data/coco

Both train the same model on the same JPEG files of the model's image size, which are written first: the first training pairs
of the data set. Runs alternate, each an epoch whose first steps are not counted. "in memory" is an epoch after the first one,
where images that fit in memory are not decoded again; open_clip decodes them in every epoch. Needs open_clip_torch[training].
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path

import click
import numpy as np
import torch

from bench.benchmarks import openclip, pairs, run
from bench.benchmarks.training import Training, matrix_of, pairs_per_second, trainer_of
from bench.errors import UserError

CPU = torch.device("cpu")
OPEN_CLIP, FROM_FILES, IN_MEMORY = "open_clip", "ours, from files", "ours, in memory"


@click.command()
@click.option("--data", default="scenes", show_default=True, help="Data set whose pairs are written.")
@click.option("--data-root", type=click.Path(path_type=Path, exists=True), help="Its folder, for example COCO's.")
@click.option("--model", default="small-64", show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--format", type=click.Choice(list(pairs.DATA)), default="webdataset", show_default=True)
@click.option("--steps", default=60, show_default=True, help="Measured steps of a run.")
@click.option("--rounds", default=5, show_default=True, help="Runs of each trainer.")
@click.option("--workers", default=1, show_default=True, help="Loading processes of open_clip; ours loads in a thread.")
def main(
    data: str,
    data_root: Path | None,
    model: str,
    batch_size: int,
    precision: str,
    format: str,
    steps: int,
    rounds: int,
    workers: int,
) -> None:
    """Compare the training loop to open_clip's on the same files, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    training = Training(model, batch_size, precision)
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_trainers:
        os.environ["BENCH_CACHE"] = f"{name}/cache"
        folder = Path(name) / "files"
        export(training, data, data_root, format, steps, folder)
        own, options = pairs.DATA[format]
        request = training.request(own, folder, options)
        runs: dict[str, Callable[[], float]] = {
            OPEN_CLIP: partial(openclip.pairs_per_second, training, folder, format, steps, workers, CPU)
        }
        for title, in_memory in ((FROM_FILES, False), (IN_MEMORY, True)):
            trainer = open_trainers.enter_context(trainer_of(request, CPU, in_memory))
            runs[title] = partial(pairs_per_second, trainer, steps)
        found = [{title: run() for title, run in runs.items()} for _ in range(rounds)]
    for title in runs:
        click.echo(f"{title}: {spread([each[title] for each in found])} pairs/s")
    for title in (FROM_FILES, IN_MEMORY):
        click.echo(f"{title}, relative to open_clip: {spread([each[title] / each[OPEN_CLIP] for each in found], 2)}")


def export(training: Training, data: str, root: Path | None, format: str, steps: int, folder: Path) -> None:
    """Write the first training pairs of a data set, enough for a run. Raises UserError if it has too few."""
    count = ceil(training.pairs(steps) / pairs.TRAIN_SHARE) + training.batch_size
    options = (f"data.train={count}",) if data == "scenes" else ()
    bundle = matrix_of(training.request(data, root, options)).workspace.bundle
    if len(bundle.train.captions) < count:
        raise UserError(
            f"--data {data}: its {len(bundle.train.captions):,} training pairs are fewer than the {count:,} of a run; "
            "lower --steps or --batch-size"
        )
    captions = (bundle.train.captions[row] for row in range(count))
    pairs.write(folder, format, pairs.encoded(bundle.train.images, count), captions, bundle.image_size)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the smallest and the largest value."""
    low, middle, high = (f"{value:,.{digits}f}" for value in np.quantile(values, [0, 0.5, 1]))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    run(main)
