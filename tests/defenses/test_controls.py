from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from defense_fakes import train_setup
from numpy.typing import NDArray

from bench.api import Budget, TrainRecipe
from bench.data.loader import batches
from bench.defenses.clip import CLIP
from bench.defenses.controls import ControlParams, ControlSize, ControlSteps


def trained(steps: int, size: int, pairs: int, seed: int = 0) -> list[list[NDArray[np.int64]]]:
    """The batches of each epoch of a control, as the engine makes them: 8 pairs a step, in 5 epochs if not told otherwise."""
    params = ControlParams(steps=steps, pairs=size)
    epochs = ControlSize.training(params, TrainRecipe(pairs, 5, 1e-3, 8)).get("epochs", 5)
    setup = dataclasses.replace(
        train_setup(pairs, epochs=int(epochs)), rng=lambda purpose: np.random.default_rng([seed, *purpose.encode()])
    )
    defense = ControlSize(params, setup)
    rng = np.random.default_rng(1)
    found = []
    for epoch in range(int(epochs)):
        (phase,) = defense.phases(epoch)
        assert (phase.image_views, phase.text_views, phase.lr, phase.lr_share) == (("light",), ("plain",), None, 1.0)
        assert phase.indices is not None
        found.append(batches(phase.indices, 8, rng))
    return found


@pytest.mark.parametrize("pairs", [40, 41, 200])
@pytest.mark.parametrize("size", [0, 5, 8, 17, 33, 40])
@pytest.mark.parametrize("steps", [1, 2, 7, 12, 31])
def test_so_many_steps_on_so_many_pairs(steps: int, size: int, pairs: int) -> None:
    epochs = trained(steps, size, pairs)
    assert sum(len(steps) for steps in epochs) == steps
    counts = {len(steps) for steps in epochs}
    assert max(counts) - min(counts) <= 1
    assert len(epochs) == -(-steps // max(1, (size or pairs) // 8))
    seen = [np.concatenate(steps) for steps in epochs]
    assert all(len(np.unique(each)) == len(each) for each in seen)
    assert len(np.unique(np.concatenate(seen))) <= (size or pairs)


def test_in_time_all_of_a_set_is_seen_and_nothing_else() -> None:
    seen = np.unique(np.concatenate([np.concatenate(steps) for steps in trained(300, 21, 80)]))
    assert len(seen) == 21
    assert np.array_equal(seen, np.unique(np.concatenate([np.concatenate(steps) for steps in trained(200, 21, 80)])))


def test_without_numbers_it_is_plain_clip() -> None:
    epochs = trained(0, 0, 43)
    assert [len(steps) for steps in epochs] == [5] * 5
    assert ControlSteps.loss is CLIP.loss


def test_parameters_follow_from_what_a_cell_spent() -> None:
    assert ControlSteps.control(Budget(17, 30)) == {"steps": 17}
    assert ControlSize.control(Budget(17, 30)) == {"steps": 17, "pairs": 30}
    assert CLIP.control(Budget(17, 30)) is None


def test_poison_is_in_the_set_in_proportion() -> None:
    """A tenth of 400 pairs is poisoned; a set of 100 then holds 10 on average, with a hypergeometric deviation of 2.6."""
    poisoned = np.zeros(400, dtype=bool)
    poisoned[:40] = True
    sets = [np.unique(np.concatenate([np.concatenate(steps) for steps in trained(100, 100, 400, seed)])) for seed in range(60)]
    inside = [int(poisoned[chosen].sum()) for chosen in sets]
    deviation = (100 * 0.1 * 0.9 * 300 / 399) ** 0.5
    assert abs(np.mean(inside) - 10) < 4 * deviation / 60**0.5
    assert 0.6 * deviation < np.std(inside) < 1.5 * deviation
