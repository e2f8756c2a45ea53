"""Planted mismatches against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from defense_fakes import unit

from bench.defenses import mismatches
from bench.defenses.mismatches import auc, paired_and_shifted, planted


@pytest.mark.parametrize("seed", range(20))
def test_auc_against_all_couples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matches = np.round(rng.normal(rng.normal(), 1, rng.integers(1, 40)), 1).astype(np.float32)
    others = np.round(rng.normal(size=rng.integers(1, 40)), 1).astype(np.float32)
    wins = [(m > o) + 0.5 * (m == o) for m in matches for o in others]
    assert auc(matches, others) == pytest.approx(sum(wins) / len(wins))


def test_what_is_no_number_tells_nothing_apart() -> None:
    nothing = np.full(5, np.nan, dtype=np.float32)
    assert auc(nothing, nothing) == 0.5


class Noting:
    """A scorer of unit embeddings that notes which pairs it was asked for."""

    def __init__(self, pairs: int) -> None:
        self.images, self.texts = unit(pairs, 8, seed=1), unit(pairs, 8, seed=2)
        self.asked: list[list[int]] = []

    def similarities(self, indices: object = None) -> None:
        raise AssertionError("embeddings are enough")

    def embeddings(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(indices.tolist())
        return self.images[indices], self.texts[indices]


@pytest.mark.parametrize(("pairs", "sample"), [(30, 1024), (50, 20)])
def test_planted_captions_are_those_of_other_pairs(monkeypatch: pytest.MonkeyPatch, pairs: int, sample: int) -> None:
    monkeypatch.setattr(mismatches, "SAMPLE", sample)
    scorer = Noting(pairs)
    own, others = planted(scorer, pairs, lambda purpose: np.random.default_rng([*purpose.encode()]))  # type: ignore[arg-type]
    (rows,) = scorer.asked
    assert len(rows) == len(set(rows)) == min(pairs, sample)
    assert rows != sorted(rows)
    every = (scorer.images @ scorer.texts.T).tolist()
    takers = []
    for row, same, other in zip(rows, own.tolist(), others.tolist(), strict=True):
        assert same == pytest.approx(every[row][row], abs=1e-6)
        (found,) = [caption for caption in range(pairs) if math.isclose(every[row][caption], other, abs_tol=1e-6)]
        assert found != row
        takers.append(found)
    assert sorted(takers) == sorted(rows)


def test_matches_that_do_not_depend_on_the_pair_are_at_chance() -> None:
    texts, same = unit(40, 8, seed=3), unit(1, 8, seed=4).expand(40, 8)
    assert auc(*paired_and_shifted(texts, same)) == pytest.approx(0.5)
    assert auc(*paired_and_shifted(texts, texts)) == pytest.approx(1)
