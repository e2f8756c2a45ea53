from __future__ import annotations

import math

import numpy as np
import pytest

from bench.training.telemetry import BINS, poison_telemetry


@pytest.mark.parametrize("seed", range(10))
def test_counts_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    safe, poisoned = rng.random(n) < rng.random(), rng.random(n) < 0.1
    similarity = rng.uniform(-1, 1, n).astype(np.float32)
    inside, histograms = 0, {name: [0] * BINS for name in ("clean", "poison")}
    for is_safe, is_poison, value in zip(safe, poisoned, similarity.tolist(), strict=True):
        inside += bool(is_safe and is_poison)
        histograms["poison" if is_poison else "clean"][min(BINS - 1, math.floor((value + 1) / 2 * BINS))] += 1
    assert poison_telemetry({"safe": safe, "similarity": similarity}, poisoned) == {
        "safe_poisons": inside,
        "safe_poison_rate": pytest.approx(inside / sum(safe) if sum(safe) else 0),
        "safe_poison_recall": pytest.approx(inside / sum(poisoned) if sum(poisoned) else 0),
        "similarity_clean": histograms["clean"],
        "similarity_poison": histograms["poison"],
    }


def test_the_ends_of_the_range_are_counted() -> None:
    told = poison_telemetry({"similarity": np.array([-1, 0, 1, 1], dtype=np.float32)}, np.array([False, False, False, True]))
    clean = [0] * BINS
    clean[0] = clean[BINS // 2] = clean[-1] = 1
    assert told == {"similarity_clean": clean, "similarity_poison": [0] * (BINS - 1) + [1]}


def test_nothing_observed() -> None:
    assert poison_telemetry({}, np.array([True, False])) == {}
