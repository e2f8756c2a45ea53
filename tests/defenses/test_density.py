"""Density filters against scikit-learn, brute force, and the released code's slips told in loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from defense_fakes import train_setup
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from bench.defenses.dao import DAO, lid
from bench.defenses.density import DensityFilter, DensityParams
from bench.defenses.k_distance import KDistance
from bench.defenses.slof import SLOF

METHODS = [KDistance, SLOF, DAO]
Rows = NDArray[np.float64]


def _rows(n: int, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(n, 4)) * [1, 1, 0.5, 0.2]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _scores(method: type[DensityFilter], rows: Rows, k: int, as_released: bool = False) -> list[float]:
    defense = method(DensityParams(as_released=as_released), train_setup(len(rows)))
    return defense.sparsity(torch.from_numpy(rows), k).tolist()


@pytest.mark.parametrize(("n", "k"), [(4, 1), (30, 1), (30, 5), (60, 28)])
def test_against_scikit_learn_s_neighbours(n: int, k: int) -> None:
    rows = _rows(n)
    away, found = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()
    radius = away[:, -1]
    dimension = np.array([-k / sum(math.log(r / each[-1]) for r in each) if k > 1 else k / 1e-6 for each in away])
    assert _scores(KDistance, rows, k) == pytest.approx(radius)
    assert _scores(SLOF, rows, k) == pytest.approx([np.mean(r / radius[o]) for r, o in zip(radius, found, strict=True)])
    expected = [np.mean([dimension[o] * math.log(r / radius[o]) for o in near]) for r, near in zip(radius, found, strict=True)]
    assert _scores(DAO, rows, k) == pytest.approx(expected)


def test_slof_is_the_local_outlier_factor_where_k_is_one() -> None:
    """With one neighbour o of x, d(x, o) >= r_1(o): no reachability distance differs from a distance."""
    rows = _rows(50)
    factor = LocalOutlierFactor(n_neighbors=1).fit(rows)
    assert _scores(SLOF, rows, 1) == pytest.approx(-factor.negative_outlier_factor_)


def _released(rows: Rows, k: int) -> dict[type[DensityFilter], list[float]]:
    n = len(rows)
    full = [sorted(math.dist(a, b) for b in rows) for a in rows]
    dimension = [-k / sum(math.log(r / each[k] + 1e-4) for r in each[:k]) for each in full]
    found: dict[type[DensityFilter], list[float]] = {method: [] for method in METHODS}
    for x in range(n):
        others = [math.dist(rows[x], rows[o]) for o in range(n) if o != x]
        order = sorted(range(n - 1), key=others.__getitem__)
        radius, wrong = others[order[k]], order[:k]
        found[KDistance].append(radius)
        found[SLOF].append(sum(radius / full[o][k] for o in wrong) / k)
        found[DAO].append(sum(dimension[o] * math.log(radius / full[o][k]) for o in wrong) / k)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "k"), [(4, 2), (30, 5), (60, 16)])
def test_as_released(method: type[DensityFilter], n: int, k: int) -> None:
    rows = _rows(n, 1)
    assert _scores(method, rows, k, as_released=True) == pytest.approx(_released(rows, k)[method])
    assert _scores(method, rows, k) != pytest.approx(_released(rows, k)[method])


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_copies_have_finite_scores(method: type[DensityFilter], as_released: bool) -> None:
    rows = np.concatenate([np.repeat(_rows(1), 9, axis=0), _rows(12, 2)])
    assert np.isfinite(_scores(method, rows, 4, as_released)).all()


def test_the_dimension_of_a_plane() -> None:
    """Of points even in a disc the distances are those of dimension 2: the share within r is (r / R)^2."""
    distances = torch.sqrt(torch.arange(1, 20_001, dtype=torch.float64) / 20_000)[None]
    assert lid(distances).item() == pytest.approx(2, rel=1e-3)


class _Embedder:
    def __init__(self, images: NDArray[np.float32]) -> None:
        self.images = images
        self.asked: list[NDArray[np.int64]] = []

    def similarities(self, indices: Any = None) -> Any:
        raise NotImplementedError

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(indices)
        found = torch.from_numpy(self.images[indices])
        return found, found


@pytest.mark.parametrize("method", METHODS)
def test_sets_are_random_and_what_stands_apart_is_dropped(method: type[DensityFilter]) -> None:
    rng = np.random.default_rng(3)
    close = np.eye(4)[0] + 0.02 * rng.normal(size=(190, 4))
    images = np.concatenate([close, rng.normal(size=(10, 4))])
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)[rng.permutation(200)]
    apart = images[:, 0] < 0.9
    defense = method(DensityParams(k=8, reference_size=50, drop=0.05), train_setup(200))
    scorer = _Embedder(images)
    defense.select(scorer)
    assert [len(each) for each in scorer.asked] == [50] * 4
    assert sorted(np.concatenate(scorer.asked).tolist()) == list(range(200))
    assert any((np.diff(each) < 0).any() for each in scorer.asked), "consecutive pairs are in one set"
    reference = defense.observed()["reference"]
    assert all(len({*reference[each].tolist()}) == 1 for each in scorer.asked)
    assert {*reference.tolist()} == {0, 1, 2, 3}
    kept = defense.observed()["safe"]
    assert int((~kept).sum()) == 10
    assert (~kept == apart).mean() > 0.98
    fresh = method(defense.params, defense.setup)
    fresh.load_state_dict(defense.state_dict())
    assert np.array_equal(fresh.observed()["reference"], reference)
    assert np.array_equal(fresh.scores(), defense.scores())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("as_released", [False, True])
def test_a_set_smaller_than_k(method: type[DensityFilter], as_released: bool) -> None:
    images = _rows(7).astype(np.float32)
    defense = method(DensityParams(as_released=as_released, drop=0), train_setup(7))
    scores, kept = defense.judge(_Embedder(images))
    assert np.isfinite(scores).all()
    assert kept.all()
