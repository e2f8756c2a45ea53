"""Seconds of a small matrix with `--jobs 2`, or more, against those of one process.

    python -m bench.benchmarks.jobs --jobs 2

Every run is a fresh results folder on a warm cache, with plain CLIP on the embedded data set, a cell a seed. One process has
all cores, each of several one thread. Start-up counts, as it does for whoever waits.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Cells side by side.")
@click.option("--cells", default=4, show_default=True, help="Cells of the matrix.")
@click.option("--epochs", default=4, show_default=True, help="Epochs a cell.")
@click.option("--pairs", default=16384, show_default=True, help="Training pairs.")
@click.option("--rounds", default=3, show_default=True, help="Times each is measured.")
def main(jobs: int, cells: int, epochs: int, pairs: int, rounds: int) -> None:
    """Measure how much sooner a matrix is done with cells side by side."""
    matrix = ["--seeds", ",".join(map(str, range(cells))), "--attack", "none", "--evaluator", "zero_shot"]
    matrix += ["--set", f"train.epochs={epochs}", "--set", f"data.train={pairs}", "--device", "cpu"]
    seconds(["--seeds", "0", *matrix[2:]], 1)  # renders and tokenises
    rates: dict[int, list[float]] = {1: [], jobs: []}
    for _ in range(rounds):
        for count, spent in rates.items():
            spent.append(seconds(matrix, count))
    alone, beside = (statistics.median(rates[count]) for count in (1, jobs))
    click.echo(f"{cells} cells, one after the other: {alone:.1f} s")
    click.echo(f"{cells} cells, {jobs} side by side: {beside:.1f} s")
    click.echo(f"ratio: {beside / alone:.2f}")


def seconds(matrix: list[str], jobs: int) -> float:
    """Of one command in a process of its own. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "run", *matrix, "--jobs", str(jobs), "--out", str(Path(folder) / "out")]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started


if __name__ == "__main__":
    main()
