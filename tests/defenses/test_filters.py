"""Filters on planted clusters, against brute force and closed forms."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from defense_fakes import train_setup
from numpy.typing import NDArray

from bench.defenses import deepknn, filtering
from bench.defenses.activation_clustering import ActivationClustering, ActivationClusteringParams, cluster_shares
from bench.defenses.clip_filter import CLIPFilter, CLIPFilterParams
from bench.defenses.deepknn import DeepKNN, DeepKNNParams, outvoted
from bench.defenses.filtering import Filter, caption_classes, members
from bench.defenses.spectral_signatures import SpectralSignatures, SpectralSignaturesParams, outlyingness

DIM = 8


class Embedder:
    """A scorer with given embeddings."""

    def __init__(self, images: NDArray[np.float32], texts: NDArray[np.float32] | None = None) -> None:
        self.images, self.texts = images, images if texts is None else texts

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        rows = np.arange(len(self.images)) if indices is None else indices
        return (self.images[rows] * self.texts[rows]).sum(axis=1)

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.images[indices]), torch.from_numpy(self.texts[indices])


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _around(axis: int, count: int, spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    return _unit(np.eye(DIM)[axis] + spread * rng.normal(size=(count, DIM)))


def _made(defense: type[Filter], params: Any, classes: NDArray[np.int64]) -> Filter:
    return defense(params, train_setup(len(classes), named=classes))


def _outvoted_slowly(rows: NDArray[np.float32], classes: NDArray[np.int64], k: int) -> list[float]:
    found = []
    for i, row in enumerate(rows):
        others = sorted((math.dist(row, other), j) for j, other in enumerate(rows) if j != i)
        nearest = others[: max(1, k)]
        votes = Counter(int(classes[j]) for _, j in nearest)
        own = votes.pop(int(classes[i]), 0)
        found.append((max([0, *votes.values()]) - own) / len(nearest))
    return found


@pytest.mark.parametrize("held", [1, 100, 2**27])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (40, 0), (40, 1), (40, 7), (41, 20), (40, 99)])
def test_votes_against_brute_force(monkeypatch: pytest.MonkeyPatch, n: int, k: int, held: int) -> None:
    monkeypatch.setattr(deepknn, "_SIMILARITIES", held)
    rng = np.random.default_rng(n + k)
    rows, classes = _unit(rng.normal(size=(n, DIM))), rng.integers(4, size=n)
    found = outvoted(torch.from_numpy(rows), torch.from_numpy(classes), k)
    assert found.tolist() == pytest.approx(_outvoted_slowly(rows, classes, k))


def test_one_pair_is_not_outvoted() -> None:
    assert outvoted(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64), 3).tolist() == [0]


def test_deepknn_drops_what_lies_in_another_class() -> None:
    rng = np.random.default_rng(0)
    images = np.concatenate([_around(0, 30, 0.1, rng), _around(1, 34, 0.1, rng)])
    classes = np.repeat([0, 1, 0], [30, 30, 4])
    defense = _made(DeepKNN, DeepKNNParams(k=0.5), classes)
    assert np.flatnonzero(~defense.judge(Embedder(images))[1]).tolist() == [60, 61, 62, 63]


@pytest.mark.parametrize(("share", "neighbours"), [(1.0, 8), (0.5, 4), (2.0, 16)])
def test_k_is_a_share_of_the_mean_class(monkeypatch: pytest.MonkeyPatch, share: float, neighbours: int) -> None:
    asked = []
    monkeypatch.setattr(deepknn, "outvoted", lambda rows, classes, k: asked.append(k) or torch.zeros(len(rows)).bool())
    classes = np.repeat([0, 2, 3], [4, 4, 16])
    _made(DeepKNN, DeepKNNParams(k=share), classes).judge(Embedder(_around(0, 24, 0.1, np.random.default_rng(0))))
    assert asked == [neighbours]


@pytest.mark.parametrize("n", [2, 5, 200])
def test_spectral_scores_against_the_svd(n: int) -> None:
    rows = _around(0, n, 0.3, np.random.default_rng(n))
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
    top = np.linalg.svd(centred, full_matrices=False)[2][0]
    assert outlyingness(rows) == pytest.approx((centred @ top) ** 2, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("poison", "factor", "dropped"), [(0.1, 1.5, (9, 3)), (0.04, 1.5, (4, 1)), (0.1, 1, (6, 2))])
def test_spectral_signatures_drop_a_share_of_every_class(poison: float, factor: float, dropped: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    images = np.concatenate([_around(0, 54, 0.05, rng), _around(2, 6, 0.05, rng), _around(1, 20, 0.05, rng)])
    classes = np.repeat([4, 7], [60, 20])
    defense = _made(SpectralSignatures, SpectralSignaturesParams(poison=poison, factor=factor), classes)
    scores, kept = defense.judge(Embedder(images))
    assert (int((~kept[:60]).sum()), int((~kept[60:]).sum())) == dropped
    assert int((~kept[54:60]).sum()) == min(6, dropped[0]), "the planted ones go first"
    for rows in (slice(60), slice(60, 80)):
        assert scores[rows][~kept[rows]].min() > scores[rows][kept[rows]].max()


def test_spectral_signatures_that_leave_nothing() -> None:
    defense = _made(SpectralSignatures, SpectralSignaturesParams(poison=0.9, factor=2), np.zeros(9, dtype=np.int64))
    with pytest.raises(ValueError, match="spectral_signatures drops every pair"):
        defense.select(Embedder(_around(0, 9, 0.1, np.random.default_rng(0))))


def test_activation_clustering_drops_a_planted_cluster_and_spares_clean_classes() -> None:
    rng = np.random.default_rng(2)
    planted = np.concatenate([_around(0, 80, 0.05, rng), _around(3, 12, 0.05, rng)])
    halves = np.concatenate([_around(1, 46, 0.05, rng), _around(4, 46, 0.05, rng)])
    order = rng.permutation(184)
    images = np.concatenate([planted, halves])[order]
    classes = np.repeat([5, 9], 92)[order]
    poisoned = ((np.arange(184) >= 80) & (np.arange(184) < 92))[order]
    defense = _made(ActivationClustering, ActivationClusteringParams(dimensions=2), classes)
    assert (defense.judge(Embedder(images))[1] == ~poisoned).all()


@pytest.mark.parametrize(("smallest", "found"), [(0.21, True), (0.2, False), (0.0, False)])
def test_the_threshold_of_the_size(smallest: float, found: bool) -> None:
    rng = np.random.default_rng(3)
    rows = np.concatenate([_around(0, 80, 0.02, rng), _around(3, 20, 0.02, rng)])
    assert cluster_shares(rows, 1, seed=0).tolist() == [0.8] * 80 + [0.2] * 20
    params = ActivationClusteringParams(dimensions=1, smallest=smallest)
    scores, kept = _made(ActivationClustering, params, np.zeros(100, dtype=np.int64)).judge(Embedder(rows))
    assert (~kept == (found & (np.arange(100) >= 80))).all()
    assert scores.tolist() == pytest.approx([0.2] * 80 + [0.8] * 20)


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((9, 4)), np.eye(4)[[0, 1]], np.eye(4)[[0, 1] * 8 + [0]]])
def test_classes_too_poor_for_ten_components(rows: NDArray[np.float64]) -> None:
    assert (cluster_shares(rows.astype(np.float32), 10, seed=0) >= 0.35).all()


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("chunk", [7, 8192])
def test_clip_filter_against_all_similarities(monkeypatch: pytest.MonkeyPatch, chunk: int, threshold: float) -> None:
    monkeypatch.setattr(filtering, "_CHUNK", chunk)
    rng = np.random.default_rng(5)
    texts = _unit(rng.normal(size=(30, DIM)) + 1)
    images = np.concatenate([_unit(texts[:25] + 0.3 * rng.normal(size=(25, DIM))), _unit(rng.normal(size=(5, DIM)))])
    every = [[sum(a * b for a, b in zip(i, t, strict=True)) for t in texts.tolist()] for i in images.tolist()]
    own, low = [every[n][n] for n in range(30)], math.fsum(map(math.fsum, every)) / 900
    cut = low + threshold * (math.fsum(own) / 30 - low)
    defense = CLIPFilter(CLIPFilterParams(threshold=threshold), train_setup(30))
    scores, mask = defense.judge(Embedder(images, texts))
    kept = mask.tolist()
    assert kept == [value >= cut for value in own]
    assert scores == pytest.approx(-np.array(own), abs=1e-6)
    assert {-9.0: sum(kept) == 30, 0.5: 20 < sum(kept) < 30}.get(threshold, True)


def test_models_that_filters_look_through() -> None:
    assert CLIPFilter.selects_with(CLIPFilterParams()) == "clean"
    assert CLIPFilter.selects_with(CLIPFilterParams(model="ViT-B-32:openai")) == "ViT-B-32:openai"
    assert DeepKNN.selects_with(DeepKNNParams()) == "undefended"


def test_training_goes_through_what_is_kept() -> None:
    scorer = Embedder(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 2, 2, 1]])
    defense, fresh = (CLIPFilter(CLIPFilterParams(), train_setup(4)) for _ in range(2))
    defense.select(scorer)
    fresh.load_state_dict(defense.state_dict())
    for each in (defense, fresh):
        (phase,) = each.phases(3)
        assert phase.indices is not None
        assert phase.indices.tolist() == [0, 2]
        assert each.observed()["safe"].tolist() == [True, False, True, False]
        assert each.scores().tolist() == [-1, 0, -1, 0]
        assert each.telemetry() == {"safe_share": 0.5, "dropped": 2, "mismatch_auc": defense.telemetry()["mismatch_auc"]}
    with pytest.raises(ValueError, match="clip_filter drops every pair"):
        CLIPFilter(CLIPFilterParams(threshold=9), train_setup(4)).select(scorer)


def test_pairs_without_a_named_class_take_the_nearest() -> None:
    rng = np.random.default_rng(4)
    texts = np.concatenate([_around(axis, 10, 0.2, rng) for axis in (0, 1, 2)])
    truth = np.repeat([6, 2, 3], 10)
    named = np.where(rng.random(30) < 0.4, -1, truth)
    assert {*named} == {-1, 2, 3, 6}
    means = {c: texts[named == c].mean(axis=0) for c in (2, 3, 6)}
    nearest = [min(means, key=lambda c: math.dist(means[c], text)) for text in texts]
    expected = [near if name < 0 else name for name, near in zip(named.tolist(), nearest, strict=True)]
    assert caption_classes(named, texts).tolist() == expected


@pytest.mark.parametrize("named", [[-1, -1, -1], [3, -1, 3], [2, 2, 2]])
def test_fewer_than_two_classes_are_one(named: list[int]) -> None:
    assert len({*caption_classes(np.array(named), np.ones((3, 2), dtype=np.float32)).tolist()}) == 1


def test_members_of_classes() -> None:
    classes = np.array([5, 2, 5, 9, 2])
    assert [rows.tolist() for rows in members(classes)] == [[1, 4], [0, 2], [3]]
