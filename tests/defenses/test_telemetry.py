from __future__ import annotations

import math

import numpy as np
import pytest
from defense_fakes import FakeScorer
from numpy.typing import NDArray

from bench.training import telemetry
from bench.training.telemetry import BINS, poison_telemetry, sampled_histograms


def _histograms(similarity: NDArray[np.float32], poisoned: NDArray[np.bool_]) -> dict[str, list[int]]:
    histograms = {"similarity_clean": [0] * BINS, "similarity_poison": [0] * BINS}
    for is_poison, value in zip(poisoned, similarity.tolist(), strict=True):
        bin_ = min(BINS - 1, math.floor((value + 1) / 2 * BINS))
        histograms["similarity_poison" if is_poison else "similarity_clean"][bin_] += 1
    return histograms


@pytest.mark.parametrize("seed", range(10))
def test_counts_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    safe, poisoned = rng.random(n) < rng.random(), rng.random(n) < 0.1
    similarity = rng.uniform(-1, 1, n).astype(np.float32)
    inside = sum(bool(is_safe and is_poison) for is_safe, is_poison in zip(safe, poisoned, strict=True))
    assert poison_telemetry({"safe": safe, "similarity": similarity}, poisoned) == {
        "safe_poisons": inside,
        "safe_poison_rate": pytest.approx(inside / sum(safe) if sum(safe) else 0),
        "safe_poison_recall": pytest.approx(inside / sum(poisoned) if sum(poisoned) else 0),
        **_histograms(similarity, poisoned),
    }


@pytest.mark.parametrize("kind", ["image_neighbour", "text_neighbour"])
@pytest.mark.parametrize("seed", range(10))
def test_poisoned_neighbours_against_a_loop(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    poisoned = rng.random(n) < 0.3
    neighbours = np.where(rng.random(n) < rng.random(), -1, rng.integers(n, size=n))
    hits = [bool(poisoned[other]) for pair, other in enumerate(neighbours) if other >= 0 and not poisoned[pair]]
    expected = {f"{kind}_poisons": pytest.approx(sum(hits) / len(hits))} if hits else {}
    assert poison_telemetry({kind: neighbours}, poisoned) == expected


@pytest.mark.parametrize("seed", range(5))
def test_poisons_in_the_reference_set_of_a_poison_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    poisoned, sets = rng.random(60) < 0.3, rng.integers(5, size=60)
    poisons = np.flatnonzero(poisoned)
    beside = [sum(bool(sets[other] == sets[poison]) for other in poisons) for poison in poisons]
    assert poison_telemetry({"reference": sets}, poisoned) == {"reference_poisons": pytest.approx(sum(beside) / len(beside))}
    assert poison_telemetry({"reference": sets}, np.zeros(60, dtype=bool)) == {}


def test_no_neighbours_of_clean_pairs() -> None:
    neighbours = {"image_neighbour": np.array([-1, 0]), "text_neighbour": np.array([-1, -1])}
    assert poison_telemetry(neighbours, np.array([False, True])) == {}


@pytest.mark.parametrize(("n", "sample"), [(1, 5), (40, 200), (300, 200), (300, 20)])
def test_the_first_look_takes_all_poisons_and_a_sample(monkeypatch: pytest.MonkeyPatch, n: int, sample: int) -> None:
    monkeypatch.setattr(telemetry, "_SAMPLE", sample)
    rng = np.random.default_rng(n)
    scorer, poisoned = FakeScorer(rng.uniform(-1, 1, n).astype(np.float32)), rng.random(n) < 0.1
    told = sampled_histograms(scorer, poisoned, np.random.default_rng(1))  # type: ignore[arg-type]
    (rows,) = scorer.asked
    assert len(set(rows.tolist())) == len(rows)
    assert {*np.flatnonzero(poisoned)} <= {*rows}
    assert sum(told["similarity_clean"]) == min(sample, n - sum(poisoned))
    assert told == _histograms(scorer.values[rows], poisoned[rows])


def test_the_first_look_follows_its_generator() -> None:
    poisoned, asked = np.arange(5000) % 7 == 0, []
    for seed in (0, 0, 1):
        scorer = FakeScorer(np.zeros(5000, dtype=np.float32))
        sampled_histograms(scorer, poisoned, np.random.default_rng(seed))  # type: ignore[arg-type]
        asked.append(scorer.asked[0].tolist())
    assert asked[0] == asked[1] != asked[2]


def test_the_ends_of_the_range_are_counted() -> None:
    told = poison_telemetry({"similarity": np.array([-1, 0, 1, 1], dtype=np.float32)}, np.array([False, False, False, True]))
    clean = [0] * BINS
    clean[0] = clean[BINS // 2] = clean[-1] = 1
    assert told == {"similarity_clean": clean, "similarity_poison": [0] * (BINS - 1) + [1]}


def test_nothing_observed() -> None:
    assert poison_telemetry({}, np.array([True, False])) == {}
