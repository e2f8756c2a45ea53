"""Wall time of a small matrix with `--jobs 2` or more, relative to one process.

    python -m bench.benchmarks.jobs --jobs 2

Each run trains plain CLIP on the embedded data set, one cell per seed, in a new results folder with a warm cache. A single
process uses all cores, parallel ones one thread each. Start-up time is included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from bench.benchmarks import run


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Cells in parallel.")
@click.option("--cells", default=4, show_default=True, help="Cells of the matrix.")
@click.option("--epochs", default=4, show_default=True, help="Epochs per cell.")
@click.option("--pairs", default=16384, show_default=True, help="Training pairs.")
@click.option("--rounds", default=3, show_default=True, help="Repetitions.")
def main(jobs: int, cells: int, epochs: int, pairs: int, rounds: int) -> None:
    """Compare the wall time of a matrix with parallel cells to that of one process."""
    matrix = ["--seeds", ",".join(map(str, range(cells))), "--attack", "none", "--evaluator", "zero_shot"]
    matrix += ["--set", f"train.epochs={epochs}", "--set", f"data.train={pairs}", "--device", "cpu"]
    seconds(["--seeds", "0", *matrix[2:]], 1)  # fills the cache
    rates: dict[int, list[float]] = {1: [], jobs: []}
    for _ in range(rounds):
        for count, spent in rates.items():
            spent.append(seconds(matrix, count))
    alone, parallel = (statistics.median(rates[count]) for count in (1, jobs))
    click.echo(f"{cells} cells, one process: {alone:.1f} s")
    click.echo(f"{cells} cells, {jobs} in parallel: {parallel:.1f} s")
    click.echo(f"ratio: {parallel / alone:.2f}")


def seconds(matrix: list[str], jobs: int) -> float:
    """Wall time of one `bench run`. Raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "run", *matrix, "--jobs", str(jobs), "--out", str(Path(folder) / "out")]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started


if __name__ == "__main__":
    run(main)
