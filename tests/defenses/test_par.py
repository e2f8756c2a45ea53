"""PAR's loss, schedule and memory of where it started, against the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from defense_fakes import FakeEncoder, FakeScorer, batch, image_embedding, text_embedding, train_setup
from loss_formulas import eq1

from bench.api import TrainRecipe
from bench.defenses.par import PAR, PARParams, falling

TRUSTED = np.array([31, 3, 9, 17, 4, 21, 30, 39])


def _defense(tau: float = 2.15, epochs: int = 8) -> PAR:
    defense = PAR(PARParams(clean=0.2, tau=tau), train_setup(40, lambda count: TRUSTED[:count], epochs=epochs))
    defense.before_epoch(0, FakeScorer(np.zeros(40, dtype=np.float32)))
    return defense


def _apart(rows: list[list[float]], others: list[list[float]]) -> float:
    return sum(math.dist(a, b) ** 2 for a, b in zip(rows, others, strict=True)) / len(rows)


@pytest.mark.parametrize("below", [0, 1, 2])
def test_loss_against_the_formula(below: int) -> None:
    """With both distances, one and none above the threshold."""
    pairs = np.array([9, 39, 3, 4, 31, 30])
    encoder, views = FakeEncoder(), batch(6, 1, 1, pairs=pairs)
    with torch.no_grad():
        images, texts = encoder.encode_image(views.images[0]).tolist(), encoder.encode_text(views.texts[0]).tolist()
    away = sorted([_apart(images, image_embedding(pairs).tolist()), _apart(texts, text_embedding(pairs).tolist())])
    defense = _defense([0.0, sum(away) / 2, 4.0][below])
    found = defense.loss(views, encoder, defense.phases(0)[0])
    assert found.item() == pytest.approx(eq1(images, texts, 0.1) - sum(away[:below]) / 2, rel=1e-4)
    found.backward()
    assert encoder.scale.grad is None, "the temperature is not trained"
    assert encoder.image.grad is not None


def test_the_rate_falls_to_a_tenth_and_then_to_nothing() -> None:
    assert [falling(t) for t in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([1, 0.55, 0.1, 0.05, 0])
    (phase,) = _defense(epochs=4).phases(1)
    assert phase.lr == pytest.approx(1e-3 * falling(0.375))


def test_the_start_is_kept() -> None:
    defense = _defense()
    scorer = FakeScorer(np.zeros(40, dtype=np.float32))
    defense.after_epoch(0, scorer)
    assert defense.telemetry() == {"image_drift": 0, "text_drift": 0}
    fresh = PAR(defense.params, defense.setup)
    fresh.load_state_dict(defense.state_dict())
    fresh.before_epoch(1, scorer)
    assert not scorer.embedded[1:], "it looked anew"
    views = batch(3, 1, 1, pairs=np.array([4, 30, 31]))
    encoder = FakeEncoder()
    assert torch.equal(fresh.loss(views, encoder, fresh.phases(1)[0]), defense.loss(views, encoder, defense.phases(1)[0]))


def test_what_it_replaces_of_the_recipe() -> None:
    recipe = TrainRecipe(pairs=3_000_000, epochs=32, lr=5e-4, batch_size=1024)
    found = PAR.training(PARParams(), recipe)
    assert found == {"epochs": 10, "batch_size": 2048, "lr": pytest.approx(3e-5), "weight_decay": 1e-4, "beta2": 0.98}
    assert PAR.training(PARParams(step_share=0.1), recipe)["epochs"] == round(
        0.1 * 32 * (3_000_000 // 1024) / (250_000 // 2048)
    )
