"""How often the statistics are right, on simulated matrices whose truth is known: `python -m bench.benchmarks.statistics`.

A matrix has plain CLIP and three defenses; the effect of a defense varies between seeds, and each seed's ASR is a share of a
number of probe images. Printed for each kind of matrix: how often the 95% interval of a difference holds the true one (beside
it the percentile interval of a hierarchical bootstrap of seeds and then probes), how often a difference of the detectable size
is found, and how often Holm's method finds one among three where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

from bench.benchmarks import run
from bench.statistics.families import holm
from bench.statistics.paired import Paired, detectable, paired

BASE = 0.4
"""Plain CLIP's ASR, and the defense's where it has no effect: where the noise of probes is large."""
DEFENSES = 3


@dataclass(frozen=True)
class World:
    """`between` is the standard deviation of a defense's effect over seeds; `fails` the share of seeds where it has none."""

    name: str
    probes: int
    between: float
    effect: float = -0.2
    fails: float = 0.0

    def differences(self, seeds: int, effect: float, rng: np.random.Generator) -> NDArray[np.float64]:
        """Outcome of the defense less that of plain CLIP for each probe: float64 (seeds, probes)."""
        true = np.where(rng.random(seeds) < self.fails, 0.0, effect) + rng.normal(0, self.between, seeds)
        defended = rng.random((seeds, self.probes)) < np.clip(BASE + true, 0, 1)[:, None]
        plain = rng.random((seeds, self.probes)) < BASE
        return defended.astype(np.float64) - plain

    @property
    def truth(self) -> float:
        return (1 - self.fails) * self.effect


WORLDS = (
    World("64 targets, seeds alike", 64, 0.0),
    World("64 targets, seeds differ by 5 points", 64, 0.05),
    World("2,000 images, seeds alike", 2000, 0.0),
    World("2,000 images, seeds differ by 5 points", 2000, 0.05),
    World("2,000 images, the attack fails on three seeds of ten", 2000, 0.02, fails=0.3),
)


@click.command()
@click.option("--matrices", type=int, default=1000, help="simulated matrices of a kind", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(matrices: int, seed: int) -> None:
    """Print coverage, power and family-wise error as a Markdown table."""
    rng = np.random.default_rng(seed)
    print("| matrix | seeds | interval holds the truth | hierarchical bootstrap | detectable found | error among three |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for world in WORLDS:
        for seeds in (3, 5, 10):
            shares = " | ".join(f"{100 * share:.1f}" for share in _shares(world, seeds, matrices, rng))
            print(f"| {world.name} | {seeds} | {shares} |", flush=True)


def _shares(world: World, seeds: int, matrices: int, rng: np.random.Generator) -> Iterator[float]:
    covered, bootstrapped, found, erred = [], [], [], []
    visible = world.effect
    for _ in range(3):  # the noise of a share depends on the share
        spread = np.std([world.differences(1, visible, rng).mean() for _ in range(500)])
        visible = -detectable(float(spread), seeds)
    for _ in range(matrices):
        outcomes = world.differences(seeds, world.effect, rng)
        result = _paired(outcomes)
        covered.append(result.low <= world.truth <= result.high)
        low, high = _hierarchical(outcomes, rng)
        bootstrapped.append(low <= world.truth <= high)
        found.append(_paired(world.differences(seeds, visible, rng)).p < 0.05)
        erred.append(min(holm([_paired(world.differences(seeds, 0.0, rng)).p for _ in range(DEFENSES)])) < 0.05)
    yield from (float(np.mean(of)) for of in (covered, bootstrapped, found, erred))


def _paired(outcomes: NDArray[np.float64]) -> Paired:
    return paired(list(outcomes.mean(axis=1)), [0.0] * len(outcomes))


def _hierarchical(outcomes: NDArray[np.float64], rng: np.random.Generator, resamples: int = 500) -> tuple[float, float]:
    """95% percentile interval: seeds drawn with replacement, then each one's probes; the latter by their normal limit."""
    means, errors = outcomes.mean(axis=1), outcomes.std(axis=1) / np.sqrt(outcomes.shape[1])
    drawn = rng.integers(0, len(means), size=(resamples, len(means)))
    resampled = (means[drawn] + errors[drawn] * rng.standard_normal(drawn.shape)).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    run(main)
