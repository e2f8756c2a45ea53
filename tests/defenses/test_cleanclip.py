from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from defense_fakes import DIM, FakeEncoder, batch, train_setup
from loss_formulas import dot, eq1, one_way
from numpy.typing import NDArray
from torch import nn

from bench.api import Batch, TrainRecipe, TrainSetup
from bench.defenses.cleanclip import CleanCLIP, CleanCLIPParams, CleanCLIPSupervised, SupervisedParams
from bench.training.held import construct, find_held

TAU = 0.1
TRUSTED = np.array([3, 4, 9, 17, 21, 30, 31, 39])
CLASSES = 5


def _trusted(count: int) -> NDArray[np.int64]:
    return TRUSTED[:count]


def _class_of(row: int) -> int:
    return -1 if row in (9, 31) else row % CLASSES


def _labels(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    assert set(rows.tolist()) <= set(TRUSTED.tolist()), "labels of a pair that is not trusted"
    return np.array([_class_of(row) for row in rows], dtype=np.int64)


def _setup() -> TrainSetup:
    return train_setup(40, _trusted, _labels, CLASSES)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 8.0])
@pytest.mark.parametrize("size", [1, 6])
def test_loss_against_the_formula(weight: float, size: int) -> None:
    defense, encoder, views = CleanCLIP(CleanCLIPParams(weight=weight), _setup()), FakeEncoder(), batch(size)
    with torch.no_grad():
        images, augmented_images = (encoder.encode_image(view).tolist() for view in views.images)
        texts, augmented_texts = (encoder.encode_text(view).tolist() for view in views.texts)
    in_modal = (one_way(images, augmented_images, TAU) + one_way(texts, augmented_texts, TAU)) / 2
    found = defense.loss(views, encoder, defense.phases(0)[0])
    assert found.item() == pytest.approx(eq1(images, texts, TAU) + weight * in_modal, rel=1e-4, abs=1e-6)
    found.backward()
    assert all(view.grad is not None for view in views.images)
    assert encoder.text.grad is not None


@pytest.mark.parametrize(("share", "count"), [(0.1, 4), (0.2, 8), (0.001, 1)])
def test_trusted_pairs_only(share: float, count: int) -> None:
    defense = CleanCLIP(CleanCLIPParams(clean=share), _setup())
    for epoch in range(3):
        (phase,) = defense.phases(epoch)
        assert phase.indices is not None
        assert phase.indices.tolist() == TRUSTED[:count].tolist()
        assert (phase.image_views, phase.text_views, phase.lr) == (("plain", "strong"), ("plain", "eda"), None)


def test_fine_tuning_starts_from_plain_clip() -> None:
    assert CleanCLIP.starts_from() == CleanCLIPSupervised.starts_from() == "clip"


def test_the_published_recipe() -> None:
    recipe = TrainRecipe(pairs=3_000_000, epochs=64, lr=5e-4, batch_size=1024)
    told = CleanCLIP.training(CleanCLIPParams(), recipe)
    assert told == {"epochs": 10, "batch_size": 64, "lr": pytest.approx(1e-5), "warmup_epochs": pytest.approx(50 / 1562)}
    told = CleanCLIPSupervised.training(SupervisedParams(), recipe)
    assert told["lr"] == pytest.approx(1e-4)
    assert told["warmup_epochs"] == pytest.approx(500 / 1562)
    assert CleanCLIP.training(CleanCLIPParams(), TrainRecipe(300, 4, 1e-3, 8))["warmup_epochs"] == 5


# Pairs, epochs and batch size of the pre-training, and the epochs of a tenth of the pairs that hold a sixth of its steps: CC1M
# has 93,744 steps and 1,562 an epoch of fine-tuning; the small ones 3,072 and 25, 6,144 and 102, 4 and 1.
@pytest.mark.parametrize(
    ("pairs", "epochs", "batch_size", "found"),
    [(1_000_000, 48, 512, 10), (16_384, 24, 128, 20), (65_536, 12, 128, 10), (100, 4, 128, 1)],
)
def test_steps_as_a_share_of_the_pre_training(pairs: int, epochs: int, batch_size: int, found: int) -> None:
    recipe = TrainRecipe(pairs, epochs, 1e-3, batch_size)
    for defense, params in ((CleanCLIP, CleanCLIPParams), (CleanCLIPSupervised, SupervisedParams)):
        told = defense.training(params(clean=0.1, step_share=1 / 6, epochs=3), recipe)
        assert told["epochs"] == found
        assert told["warmup_epochs"] <= found / 2
        assert defense.training(params(clean=0.1, epochs=3), recipe)["epochs"] == 3


def _supervised() -> CleanCLIPSupervised:
    return CleanCLIPSupervised(SupervisedParams(clean=0.2), _setup())


def _head(defense: CleanCLIPSupervised) -> nn.Linear:
    (head,) = [value for _, value in find_held(defense) if isinstance(value, nn.Module)]
    assert isinstance(head, nn.Linear)
    return head


def _supervised_batch() -> Batch:
    views = batch(6, image_views=1, text_views=0)
    return Batch(torch.tensor([39, 3, 4, 17, 21, 30]), views.images, ())


def test_supervised_trains_on_trusted_pairs_of_known_class() -> None:
    (phase,) = _supervised().phases(0)
    assert phase.indices is not None
    assert phase.indices.tolist() == [3, 4, 17, 21, 30, 39]
    assert (phase.image_views, phase.text_views) == (("light",), ())


def test_supervised_loss_is_cross_entropy_of_the_heads_answers() -> None:
    defense, encoder, views = _supervised(), FakeEncoder(), _supervised_batch()
    head = _head(defense)
    weight, bias = (parameter.detach().double().tolist() for parameter in head.parameters())
    with torch.no_grad():
        embeddings = encoder.encode_image(views.images[0]).tolist()
    total = 0.0
    for row, embedding in zip(views.indices.tolist(), embeddings, strict=True):
        logits = [10 * (dot(embedding, line) + b) for line, b in zip(weight, bias, strict=True)]
        total -= logits[_class_of(row)] - math.log(math.fsum(math.exp(logit) for logit in logits))
    assert defense.loss(views, encoder, defense.phases(0)[0]).item() == pytest.approx(total / 6, rel=1e-4)


def test_supervised_trains_head_and_image_tower_only() -> None:
    defense, encoder = _supervised(), FakeEncoder()
    head = _head(defense)
    assert head.weight.shape == (CLASSES, DIM)
    defense.loss(_supervised_batch(), encoder, defense.phases(0)[0]).backward()
    assert encoder.image.grad is not None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())
    assert encoder.text.grad is None
    assert encoder.scale.grad is None
    assert [name for name, _ in encoder.calls] == ["image"]


def test_the_head_follows_the_seed() -> None:
    params, setup = SupervisedParams(clean=0.2), _setup()
    first, again, other = (_head(construct(CleanCLIPSupervised, params, setup, seed)) for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert not first.bias.any()
