"""Is `scenes` rich in pairs, as a million captions are: plain CLIP on fewer pairs, with fewer steps, against the whole.

    python -m bench.benchmarks.regime --out regime

A defense that holds pairs back trains on a part of them, with a part of the steps. What that alone costs is what plain CLIP
loses with as many: where it is over a point, pairs are too few and every such defense looks dear. Cells are on record in the
folder, so that a second call measures what is missing. Exit code 1 where a loss is over the point.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pandas as pd

import bench

SHARES: tuple[tuple[float, float], ...] = ((1, 1), (1, 0.5), (0.5, 0.5), (0.25, 0.5))
"""Of the pairs and of the steps."""
POINT = 0.01


@click.command()
@click.option("--pairs", default=65_536, show_default=True, help="Training pairs of the whole.")
@click.option("--epochs", default=8, show_default=True, help="Epochs over them.")
@click.option("--seed", default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Results folder.")
def main(pairs: int, epochs: int, seed: int, out: Path) -> None:
    """Train plain CLIP on shares of the pairs and print what each loses."""
    means = [mean_accuracy(pairs, epochs, *share, seed, out) for share in SHARES]
    worst = max((means[0] - each).max() for each in means)
    click.echo(f"largest loss: {100 * worst:.1f} points")
    sys.exit(bool(worst > POINT))


def mean_accuracy(pairs: int, epochs: int, of_pairs: float, of_steps: float, seed: int, out: Path) -> pd.Series:
    """Of plain CLIP without poison: by evaluator the mean over tasks, in [0, 1]."""
    sizes = {"data.train": round(of_pairs * pairs), "train.epochs": round(epochs * of_steps / of_pairs)}
    frame = bench.run(attack="none", data="scenes", set=sizes, seeds=seed, out=out, quiet=True).frame
    means = frame[frame.metric == "top1"].groupby("evaluator").value.mean()
    figures = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    click.echo(f"{sizes['data.train']:,} pairs, {of_steps:.0%} of the steps: {figures}")
    return means


if __name__ == "__main__":
    main()
