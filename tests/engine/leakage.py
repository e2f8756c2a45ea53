"""Trials of defenses that try to find the poisoned pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Phase
from bench.data.poisoned import PoisonedPairs
from bench.defenses.clip import CLIP
from bench.matrix import cell as cells
from bench.matrix.expand import Matrix
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.registry import register_defense
from bench.training.trainer import Trainer

from .small import small_matrix
from .training import Recorder

RATE = 0.2
"""Poison rate: high, so that chance level is precise with 256 pairs."""


def prepared_trainer(matrix: Matrix, folder: Path) -> Trainer:
    runtime = Runtime(torch.device("cpu"), Recorder(), lambda: False)
    trainer, _ = cells.prepare(matrix.cells[-1], matrix.workspace, Store.create(folder), runtime)
    return trainer


def trial(
    folder: Path, suspected: Callable[[Any], NDArray[np.int64]], seed: int = 0
) -> tuple[NDArray[np.bool_], PoisonedPairs]:
    """Which pairs a defense that may ask its setup anything calls poisoned, bool (pairs,), and the pairs."""

    @register_defense(f"cheat{seed}")
    class Cheat(CLIP):
        def phases(self, epoch: int) -> Sequence[Phase]:
            kept = np.ones(self.setup.pairs, dtype=bool)
            kept[suspected(self.setup)] = False
            return (Phase(indices=np.flatnonzero(kept)),)

    trainer = prepared_trainer(small_matrix(f"attack.rate={RATE}", defenses=[f"cheat{seed}"], seeds=[seed]), folder)
    kept = np.zeros(len(trainer.pairs), dtype=bool)
    kept[trainer.defense.phases(0)[0].indices] = True
    return ~kept, trainer.pairs


def assert_no_better_than_chance(found: NDArray[np.bool_], poisoned: NDArray[np.bool_]) -> None:
    """The share of poisons among the suspects is that of all pairs, within four standard deviations of a random draw."""
    n, rate = found.sum(), poisoned.mean()
    spread = 4 * np.sqrt(rate * (1 - rate) * (1 - n / len(found)) / max(n, 1))
    assert abs(poisoned[found].mean() - rate) <= spread + 1e-9 if n else True, (int(n), float(poisoned[found].mean()), rate)
