"""What keeps a GPU from its peak: training on a batch that lies on it, and from JPEG files and WebDataset, beside open_clip's.

    python -m bench.benchmarks.gpu --model RN50 --batch-size 256

All of it has the same model, batch size and precision, in one run. Pairs are made up. "waits" is the share of the time in
which the device has finished a step and not begun the next, by its own clock; images are decoded for every batch, as where
they do not fit in memory. FLOP are those that PyTorch counts in products and convolutions of a step. Without a GPU all this
is measured on the CPU, where loading takes its share of the cores.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.api import Batch
from bench.benchmarks import openclip, pairs, run
from bench.benchmarks.captions import sentences
from bench.benchmarks.training import Training, pairs_per_second, trainer_of
from bench.cores import available_cores
from bench.matrix.device import device_of
from bench.models.encoder import HALF
from bench.profiling.machine import matmul_rate
from bench.profiling.measure import run_steps
from bench.training.stages import Stages
from bench.training.trainer import Trainer

FILES = {"csv": "JPEG files", "webdataset": "WebDataset"}


@dataclass(frozen=True)
class Measured:
    """pairs: a second; waits: share of the time that the device waits between steps, in [0, 1], where that is known."""

    pairs: float
    waits: float | None = None


@click.command()
@click.option("--model", default="RN50", show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="bf16", show_default=True)
@click.option("--steps", default=40, show_default=True, help="Measured steps of a run.")
@click.option("--side", default=256, show_default=True, help="Side of the files' images, in pixels.")
@click.option("--workers", default=available_cores, show_default="cores", help="Loading processes of open_clip's trainer.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def main(model: str, batch_size: int, precision: str, steps: int, side: int, workers: int, device: str) -> None:
    """Compare training from files to a batch in the device's memory, to open_clip's trainer, and to a matrix product."""
    training, place = Training(model, batch_size, precision), device_of(device)
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["BENCH_CACHE"] = f"{name}/cache"
        for format, title in FILES.items():
            data, options = pairs.DATA[format]
            make(Path(name) / format, format, training.pairs(steps), side)
            with trainer_of(training.request(data, Path(name) / format, options), place) as trainer:
                found[title] = measured(trainer, steps)
        if openclip.installed():
            found |= theirs(training, Path(name), steps, workers, place)
        else:
            click.echo(f"open_clip's trainer is not measured: {openclip.INSTALL}")
        flop = flop_per_pair(trainer)
        with fixed_batch(trainer):
            found = {"a batch on the device": measured(trainer, steps), **found}
    report(training, place, found, flop)


def make(folder: Path, format: str, train: int, side: int) -> None:
    """Write made-up pairs, `train` of them for training."""
    count, rng = ceil(train / pairs.TRAIN_SHARE) + 2, np.random.default_rng(0)
    pairs.write(folder, format, pairs.pictures(count, side, rng), sentences(count, rng), side)


def theirs(training: Training, folder: Path, steps: int, workers: int, device: torch.device) -> dict[str, Measured]:
    """open_clip's trainer on the files of each format, and on a GPU with its compiled step too."""
    rows = [(format, False) for format in FILES] + [("webdataset", True)] * (device.type == "cuda")
    return {
        f"open_clip, {FILES[format]}{', compiled' * compiled}": Measured(
            openclip.pairs_per_second(training, folder / format, format, steps, workers, device, compiled)
        )
        for format, compiled in rows
    }


def flop_per_pair(trainer: Trainer) -> float:
    """FLOP of a step, forward and backward, by pair."""
    with FlopCounterMode(display=False) as counter:
        run_steps(trainer, (trainer.defense.phases(0), 0, 0), 1)
    return int(counter.get_total_flops()) / trainer.train.batch_size


@contextmanager
def fixed_batch(trainer: Trainer) -> Iterator[None]:
    """Within it every step trains on one batch, which lies on the device."""
    (phase, *_), device = trainer.defense.phases(0), trainer.encoder.device
    loaded = trainer.views.load(phase, np.arange(trainer.train.batch_size), (0, 0, 0))
    images, texts = (tuple(each.to(device) for each in part) for part in (loaded.images, loaded.texts))
    batch = Batch(indices=loaded.indices.to(device), images=images, texts=texts)
    with patch.object(trainer.views, "load", lambda *_: batch), patch("bench.training.views.to_device", lambda each, _: each):
        yield


def measured(trainer: Trainer, steps: int) -> Measured:
    trainer.stages = waits = DeviceWaits(trainer.encoder.device)
    rate = pairs_per_second(trainer, steps)
    return Measured(rate, waits.seconds_of_last(steps) * rate / (steps * trainer.train.batch_size))


class DeviceWaits(Stages):
    """Notes when the device begins and ends each step."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._begins: list[torch.cuda.Event | float] = []
        self._ends: list[torch.cuda.Event | float] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        with super().__call__(stage):
            if stage == "augment":
                self._begins.append(self._now())
            yield
            if stage == "optimiser":
                self._ends.append(self._now())

    def seconds_of_last(self, steps: int) -> float:
        """Seconds between the last `steps` steps and the ends of those before; the device has to be idle."""
        begins, ends = self._begins[-steps:], self._ends[-steps - 1 : -1]
        return sum(_between(end, begin) for end, begin in zip(ends, begins, strict=True))

    def _now(self) -> torch.cuda.Event | float:
        if self._device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _between(first: torch.cuda.Event | float, second: torch.cuda.Event | float) -> float:
    if isinstance(first, float) or isinstance(second, float):
        return float(second) - float(first)  # type: ignore[arg-type]
    return float(first.elapsed_time(second)) / 1000


def report(training: Training, device: torch.device, found: dict[str, Measured], flop: float) -> None:
    """Print a Markdown table."""
    peak = matmul_rate(HALF.get(training.precision, torch.float32), device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU is used: figures are of the CPU"
    click.echo(f"{training.model}, batches of {training.batch_size}, {training.precision}; {name}, {os.cpu_count()} cores\n")
    click.echo("| | pairs/s | TFLOP/s | of a matrix product | waits |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    for title, each in found.items():
        rate = each.pairs * flop
        waits = "" if each.waits is None else f"{each.waits:.1%}"
        click.echo(f"| {title} | {each.pairs:,.0f} | {rate / 1e12:.3g} | {rate / peak:.1%} | {waits} |")
    click.echo(f"| matrix product | | {peak / 1e12:.3g} | 100% | |")


if __name__ == "__main__":
    run(main)
