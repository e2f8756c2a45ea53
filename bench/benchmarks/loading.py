"""Pairs per second of decoding and augmenting JPEG files on one core, relative to a plain torchvision pipeline.

    python -m bench.benchmarks.loading --folder /data/coco/train2017 --side 64

"light" is one slightly cropped view, as for plain CLIP; "strong" is two views of SimCLR. Nothing is cached between batches.
Both pipelines alternate on the same files; reported are medians of CPU time.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from bench.benchmarks import run
from bench.data.augment import random_crop, simclr, to_float
from bench.data.files import ImageFiles

LIGHT, STRONG = 0.9, 0.2
Pipeline = Callable[[], None]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True, help="JPEG files, at any depth.")
@click.option("--side", default=64, show_default=True, help="Side of the model's input, in pixels.")
@click.option("--images", default=512, show_default=True, help="Number of files used.")
@click.option("--longest", default=0, help="Longer side that copies of the files are scaled to first; 0 uses the files.")
@click.option("--batch", default=128, show_default=True, help="Images per batch.")
@click.option("--rounds", default=5, show_default=True, help="Repetitions.")
def main(folder: Path, side: int, images: int, longest: int, batch: int, rounds: int) -> None:
    """Compare decoding and augmenting of JPEG files to plain torchvision, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    files = sorted(folder.rglob("*.jpg"))
    files = files[:: max(1, len(files) // images)][:images]
    with _scaled(files, longest) as scaled:
        pipelines = {
            "light, ours": lambda: ours(scaled, side, batch, "light"),
            "light, torchvision": lambda: plain(scaled, side, batch, "light"),
            "strong, ours": lambda: ours(scaled, side, batch, "strong"),
            "strong, torchvision": lambda: plain(scaled, side, batch, "strong"),
            "decoding alone, ours": lambda: decoded(scaled, side, batch),
        }
        for name, rate in rates(pipelines, len(scaled), rounds).items():
            click.echo(f"{name}: {rate:,.0f} pairs/s")


def rates(pipelines: dict[str, Pipeline], count: int, rounds: int) -> dict[str, float]:
    """Median pairs per second of CPU time, without a first warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(rounds + 1):
        for name, pipeline in pipelines.items():
            started = time.process_time()
            pipeline()
            seconds[name].append(time.process_time() - started)
    return {name: count / statistics.median(spent[1:]) for name, spent in seconds.items()}


def batches(files: Sequence[Path], side: int, size: int) -> Iterator[torch.Tensor]:
    images = ImageFiles(files, side, budget=0)
    return (images.load(np.arange(start, min(start + size, len(files)))) for start in range(0, len(files), size))


def decoded(files: Sequence[Path], side: int, size: int) -> None:
    for _ in batches(files, side, size):
        pass


def ours(files: Sequence[Path], side: int, size: int, view: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for pixels in batches(files, side, size):
        images = to_float(pixels)
        if view == "light":
            random_crop(images, LIGHT, generator)
        else:
            simclr(images, STRONG, 1.0, generator)
            simclr(images, STRONG, 1.0, generator)


class Files(Dataset[torch.Tensor]):
    """The views of each file, float32 (views, 3, side, side)."""

    def __init__(self, files: Sequence[Path], side: int, view: str) -> None:
        self.files = files
        self.views = 1 if view == "light" else 2
        self.crop = v2.RandomResizedCrop(side, (LIGHT if view == "light" else STRONG, 1), (1, 1), antialias=True)
        self.tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        kernel = 2 * max(1, round(side / 10) // 2) + 1
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)
        blur = v2.RandomApply([v2.GaussianBlur(kernel, (0.1 * side / 224, 2.0 * side / 224))], 0.5)
        strong = v2.Compose([v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2), blur])
        self.change = strong if view == "strong" else torch.nn.Identity()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            colours = image.convert("RGB")
            return torch.stack([self.change(self.tensor(self.crop(colours))) for _ in range(self.views)])


def plain(files: Sequence[Path], side: int, size: int, view: str) -> None:
    for _ in DataLoader(Files(files, side, view), size, num_workers=0):
        pass


@contextmanager
def _scaled(files: Sequence[Path], longest: int) -> Iterator[Sequence[Path]]:
    if not longest:
        yield files
        return
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for number, file in enumerate(files):
            with Image.open(file) as image:
                scale = longest / max(image.size)
                size = round(scale * image.width), round(scale * image.height)
                copies.append(Path(folder) / f"{number}.jpg")
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(copies[-1], quality=90)
        yield copies


if __name__ == "__main__":
    run(main)
