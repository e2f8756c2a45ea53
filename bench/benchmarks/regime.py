"""Whether `scenes` has pairs in abundance: plain CLIP on fewer pairs and with fewer steps, relative to all of them.

    python -m bench.benchmarks.regime --out regime

A defense that filters pairs trains on a part of them, with a part of the steps. Plain CLIP with as many pairs and steps shows
the cost of that alone. If it exceeds one point, pairs are too few, and every such defense looks expensive. A second call
reuses the cells on record. The exit code is 1 if a loss exceeds one point.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pandas as pd

import bench
from bench.benchmarks import run

SHARES: tuple[tuple[float, float], ...] = ((1, 1), (1, 0.5), (0.5, 0.5), (0.25, 0.5))
"""Shares of the pairs and of the steps."""
POINT = 0.01


@click.command()
@click.option("--pairs", default=65_536, show_default=True, help="Training pairs in all.")
@click.option("--epochs", default=8, show_default=True, help="Epochs over them.")
@click.option("--seed", default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Results folder.")
def main(pairs: int, epochs: int, seed: int, out: Path) -> None:
    """Train plain CLIP on shares of the pairs and print the loss of accuracy."""
    means = [mean_accuracy(pairs, epochs, *share, seed, out) for share in SHARES]
    worst = max((means[0] - each).max() for each in means)
    click.echo(f"largest loss: {100 * worst:.1f} points")
    sys.exit(bool(worst > POINT))


def mean_accuracy(pairs: int, epochs: int, of_pairs: float, of_steps: float, seed: int, out: Path) -> pd.Series:
    """Accuracy of plain CLIP without poison by evaluator, the mean over tasks, in [0, 1]."""
    sizes = {"data.train": round(of_pairs * pairs), "train.epochs": round(epochs * of_steps / of_pairs)}
    frame = bench.run(attack="none", data="scenes", set=sizes, seeds=seed, out=out, quiet=True).frame
    means = frame[frame.metric == "top1"].groupby("evaluator").value.mean()
    figures = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    click.echo(f"{sizes['data.train']:,} pairs, {of_steps:.0%} of the steps: {figures}")
    return means


if __name__ == "__main__":
    run(main)
