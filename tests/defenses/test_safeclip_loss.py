from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from defense_fakes import DIM, FakeEncoder, FakeScorer, batch, image_embedding, text_embedding, train_setup
from loss_formulas import eq1, nearest, nearest_rows, one_way

from bench.api import Phase
from bench.defenses.safeclip import SafeCLIP, SafeCLIPParams

TAU = 0.1
UNIMODAL = Phase("unimodal", None, ("strong", "strong"), ("eda", "eda"))


def _defense(**params: Any) -> SafeCLIP:
    """A defense at the start of its first epoch, with its pools filled."""
    defense = SafeCLIP(SafeCLIPParams(**{"pool": 10, **params}), train_setup(40))
    defense.before_epoch(0, FakeScorer(np.zeros(40, dtype=np.float32)))
    return defense


def _embedded(encoder: FakeEncoder, images: torch.Tensor, texts: torch.Tensor) -> tuple[list[list[float]], list[list[float]]]:
    with torch.no_grad():
        return encoder.encode_image(images).tolist(), encoder.encode_text(texts).tolist()


@pytest.mark.parametrize("size", [1, 6, 13])
def test_unimodal_loss_over_several_steps_against_eq_2(size: int) -> None:
    defense, encoder = _defense(), FakeEncoder()
    chosen = np.random.default_rng([*b"pool"]).permutation(40)[:10]
    pools = [image_embedding(chosen).tolist(), text_embedding(chosen).tolist()]
    for step in range(4):
        views = batch(size, seed=step)
        first = _embedded(encoder, views.images[0], views.texts[0])
        second = _embedded(encoder, views.images[1], views.texts[1])
        expected = sum(one_way(nearest(a, pool), b, TAU) for a, b, pool in zip(first, second, pools, strict=True))
        found = defense.loss(views, encoder, UNIMODAL)
        assert found.item() == pytest.approx(expected, rel=1e-4)
        pools = [(pool + rows)[-10:] for pool, rows in zip(pools, first, strict=True)]


@pytest.mark.parametrize("size", [1, 6, 13])
def test_neighbours_with_the_pools_kept_by_hand(size: int) -> None:
    defense, encoder, rng = _defense(), FakeEncoder(), np.random.default_rng(size)
    pairs = np.random.default_rng([*b"pool"]).permutation(40)[:10].tolist()
    pools = [image_embedding(np.array(pairs)).tolist(), text_embedding(np.array(pairs)).tolist()]
    for epoch in range(3):
        defense.before_epoch(epoch, FakeScorer(np.zeros(40, dtype=np.float32)))
        neighbours = np.full((2, 40), -1)
        for step in range(5):
            rows = rng.choice(40, size, replace=False)
            views = batch(size, seed=10 * epoch + step, pairs=rows)
            defense.loss(views, encoder, UNIMODAL)
            first = _embedded(encoder, views.images[0], views.texts[0])
            for found, anchors, pool in zip(neighbours, first, pools, strict=True):
                found[rows] = [pairs[row] for row in nearest_rows(anchors, pool)]
            pools = [(pool + anchors)[-10:] for pool, anchors in zip(pools, first, strict=True)]
            pairs = (pairs + rows.tolist())[-10:]
        observed = defense.observed()
        assert [observed[f"{modality}_neighbour"].tolist() for modality in ("image", "text")] == neighbours.tolist()


def test_without_a_pool_it_is_two_sided_contrast_of_the_views() -> None:
    defense, encoder, views = _defense(use_pool=False), FakeEncoder(), batch(6)
    first = _embedded(encoder, views.images[0], views.texts[0])
    second = _embedded(encoder, views.images[1], views.texts[1])
    expected = sum((one_way(a, b, TAU) + one_way(b, a, TAU)) / 2 for a, b in zip(first, second, strict=True))
    assert defense.loss(views, encoder, UNIMODAL).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("use_pool", [True, False])
def test_with_a_pool_the_first_view_runs_without_a_graph(use_pool: bool) -> None:
    defense, encoder, views = _defense(use_pool=use_pool), FakeEncoder(), batch(6)
    defense.loss(views, encoder, UNIMODAL).backward()
    first = not use_pool
    assert sorted(encoder.calls) == sorted([("image", first), ("image", True), ("text", first), ("text", True)])
    assert (views.images[0].grad is not None) == first
    assert views.images[1].grad is not None
    assert encoder.image.grad is not None
    assert encoder.text.grad is not None


@pytest.mark.parametrize("use_pool", [True, False])
def test_the_temperature_is_learned_by_the_clip_loss_alone(use_pool: bool) -> None:
    defense, encoder, views = _defense(use_pool=use_pool), FakeEncoder(), batch(6)
    defense.loss(views, encoder, UNIMODAL).backward()
    assert encoder.scale.grad is None
    defense.loss(views, encoder, Phase("safe")).backward()
    assert encoder.scale.grad is not None


def test_the_gradient_is_that_of_the_second_view_alone() -> None:
    defense, encoder, views = _defense(), FakeEncoder(), batch(6)
    chosen = np.random.default_rng([*b"pool"]).permutation(40)[:10]
    defense.loss(views, encoder, UNIMODAL).backward()
    with torch.no_grad():
        anchors = encoder.encode_image(views.images[0])
    neighbours = torch.from_numpy(nearest(anchors.tolist(), image_embedding(chosen).tolist())).float()
    logits = 10 * neighbours @ encoder.encode_image(views.images[1]).T
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.arange(6)), encoder.image)[0]
    assert torch.allclose(encoder.image.grad, expected, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["low_lr", "safe"])
def test_the_other_phases_have_the_clip_loss(name: str) -> None:
    defense, encoder, views = _defense(), FakeEncoder(), batch(7, image_views=1, text_views=1)
    expected = eq1(*_embedded(encoder, views.images[0], views.texts[0]), TAU)
    pools = {modality: pool.embeddings.clone() for modality, pool in defense._pools.items()}
    assert defense.loss(views, encoder, Phase(name)).item() == pytest.approx(expected, rel=1e-4)
    assert all(torch.equal(pools[modality], pool.embeddings) for modality, pool in defense._pools.items())


def test_the_pool_is_filled_once_with_random_pairs() -> None:
    scorer = FakeScorer(np.zeros(40, dtype=np.float32))
    defense = SafeCLIP(SafeCLIPParams(pool=10), train_setup(40))
    for epoch in range(2):
        defense.before_epoch(epoch, scorer)
    (rows,) = scorer.embedded
    assert len(set(rows.tolist())) == 10
    assert torch.equal(defense._pools["text"].embeddings, text_embedding(rows))
    assert torch.equal(defense._pools["image"].embeddings, image_embedding(rows))


def test_a_pool_larger_than_the_data_and_none() -> None:
    scorer = FakeScorer(np.zeros(40, dtype=np.float32))
    defense = SafeCLIP(SafeCLIPParams(pool=100), train_setup(40))
    defense.before_epoch(0, scorer)
    assert len(defense._pools["image"]) == 40
    assert torch.isfinite(defense.loss(batch(5), FakeEncoder(), UNIMODAL))
    SafeCLIP(SafeCLIPParams(use_pool=False), train_setup(40)).before_epoch(0, scorer)
    assert len(scorer.embedded) == 1


def test_pools_survive_an_interruption() -> None:
    first, second, encoder = _defense(), SafeCLIP(SafeCLIPParams(pool=10), train_setup(40)), FakeEncoder()
    first.loss(batch(3), encoder, UNIMODAL)
    second.load_state_dict(first.state_dict())
    for step in range(1, 4):
        views = batch(4, seed=step, pairs=np.arange(4) + step)
        for name in ("image_neighbour", "text_neighbour"):
            assert np.array_equal(first.observed()[name], second.observed()[name])
        assert torch.equal(first.loss(views, encoder, UNIMODAL), second.loss(views, encoder, UNIMODAL))
    assert first._pools["text"].embeddings.shape == (10, DIM)
