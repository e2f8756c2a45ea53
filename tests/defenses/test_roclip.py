from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from defense_fakes import FakeEncoder, FakeScorer, batch, text_embedding, train_setup
from loss_formulas import eq1, nearest_rows

from bench.api import TrainRecipe
from bench.defenses.roclip import RoCLIP, RoCLIPParams

TAU = 0.1
NO_SCORES = np.zeros(40, dtype=np.float32)


def _defense(**params: Any) -> RoCLIP:
    return RoCLIP(RoCLIPParams(**{"pool": 0.25, **params}), train_setup(40))


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_every_kth_epoch_matches(every: int) -> None:
    defense = _defense(every=every)
    names = []
    for epoch in range(12):
        (phase,) = defense.phases(epoch)
        assert (phase.indices, phase.lr) == (None, None)
        assert (phase.image_views, phase.text_views) == (("strong",), ("eda",))
        names.append(phase.name)
    assert [epoch + 1 for epoch, name in enumerate(names) if name == "match"] == list(range(every, 13, every))


def test_without_augmentation() -> None:
    (phase,) = _defense(augment_images=False, augment_texts=False).phases(1)
    assert (phase.image_views, phase.text_views) == (("light",), ("plain",))


def test_loss_over_epochs_with_the_pool_kept_by_hand() -> None:
    """Plain epochs: Eq. 1 and the pool rests. Matching epochs: look-up first, then the batch's captions enter."""
    defense, encoder, scorer = _defense(), FakeEncoder(), FakeScorer(NO_SCORES)
    rng, chosen = np.random.default_rng(0), np.random.default_rng([*b"pool"]).permutation(40)[:10]
    pool, pairs = text_embedding(chosen).tolist(), chosen.tolist()
    for epoch in range(6):
        defense.before_epoch(epoch, scorer)
        (phase,) = defense.phases(epoch)
        neighbours = np.full(40, -1)
        for step in range(8):
            rows = rng.choice(40, 4, replace=False)
            views = batch(4, image_views=1, text_views=1, seed=10 * epoch + step, pairs=rows)
            with torch.no_grad():
                images = encoder.encode_image(views.images[0]).tolist()
                texts = encoder.encode_text(views.texts[0]).tolist()
            matching = epoch % 2 == 1
            found = nearest_rows(images, pool)
            expected = eq1(images, [pool[row] for row in found] if matching else texts, TAU)
            assert defense.loss(views, encoder, phase).item() == pytest.approx(expected, rel=1e-4)
            if matching:
                neighbours[rows] = [pairs[row] for row in found]
                pool, pairs = (pool + texts)[-10:], (pairs + rows.tolist())[-10:]
        assert defense.observed()["text_neighbour"].tolist() == neighbours.tolist()
    assert {tuple(row) for row in defense._pool.embeddings.tolist()} == {tuple(row) for row in pool}


def test_the_pool_starts_with_random_captions_when_it_is_first_needed() -> None:
    defense, scorer = _defense(), FakeScorer(NO_SCORES)
    defense.before_epoch(0, scorer)
    assert len(defense._pool) == 0
    defense.before_epoch(1, scorer)
    defense.before_epoch(3, scorer)
    (rows,) = scorer.embedded
    assert len(set(rows.tolist())) == 10
    assert torch.equal(defense._pool.embeddings, text_embedding(rows))


def test_matching_trains_the_images_only() -> None:
    defense, encoder = _defense(), FakeEncoder()
    defense.before_epoch(1, FakeScorer(NO_SCORES))
    defense.loss(batch(5, 1, 1), encoder, defense.phases(1)[0]).backward()
    assert encoder.image.grad is not None
    assert encoder.text.grad is None


@pytest.mark.parametrize(("pairs", "share", "size"), [(1_000_000, 0.02, 20_000), (40, 0.02, 1), (10, 0.01, 1)])
def test_pool_size(pairs: int, share: float, size: int) -> None:
    defense = RoCLIP(RoCLIPParams(pool=share), train_setup(pairs))
    assert len(defense._pool.embeddings) == size


def test_the_published_recipe_from_clips() -> None:
    recipe = TrainRecipe(pairs=1_000_000, epochs=48, lr=5e-4, batch_size=512)
    assert RoCLIP.training(RoCLIPParams(), recipe) == {"lr": pytest.approx(5e-5), "epochs": 24}
    assert RoCLIP.training(RoCLIPParams(), TrainRecipe(64, 1, 1e-3, 8))["epochs"] == 1


def test_state_round_trip() -> None:
    first, second, encoder = _defense(), _defense(), FakeEncoder()
    first.before_epoch(1, FakeScorer(NO_SCORES))
    (match,) = first.phases(1)
    first.loss(batch(3, 1, 1), encoder, match)
    second.load_state_dict(first.state_dict())
    for step in range(1, 6):
        views = batch(3, 1, 1, seed=step, pairs=np.arange(3) + step)
        assert np.array_equal(first.observed()["text_neighbour"], second.observed()["text_neighbour"])
        assert torch.equal(first.loss(views, encoder, match), second.loss(views, encoder, match))


def _told(matched: list[int]) -> dict[str, float]:
    defense = RoCLIP(RoCLIPParams(every=2), train_setup(len(matched)))
    defense._matched.copy_(torch.tensor(matched))
    defense.after_epoch(0, FakeScorer(NO_SCORES))
    assert defense.telemetry() == {}
    defense.after_epoch(1, FakeScorer(NO_SCORES))
    told = defense.telemetry()
    defense.before_epoch(2, FakeScorer(NO_SCORES))
    assert defense.telemetry() == {}
    return told


def test_the_share_of_own_captions_among_the_matches() -> None:
    assert _told([*range(10), *[0] * 10, *[-1] * 20])["own_matches"] == pytest.approx(10 / 20)
    assert _told([(row + 1) % 40 for row in range(40)])["own_matches"] == 0


def test_matches_by_content_and_by_chance() -> None:
    """Captions of the fakes lie on a circle, a radian apart: 44 steps are seven rounds less a fiftieth."""
    near = [(row + 44) % 88 for row in range(88)]
    assert _told(near)["match_auc"] > 0.9
    assert _told([7] * 88)["match_auc"] == pytest.approx(0.5)
    assert _told(np.random.default_rng(0).permutation(88).tolist())["match_auc"] == pytest.approx(0.5, abs=0.12)


def test_limits_name_what_is_told() -> None:
    assert {limit.figure for limit in RoCLIP.limits(RoCLIPParams())} == _told([0] * 40).keys()
