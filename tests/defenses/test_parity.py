"""Losses of the defenses and the gradients they send into each view, against sums over single pairs in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from defense_fakes import DIM, FakeScorer, Identity, image_embedding, text_embedding, train_setup, unit
from loss_formulas import eq1, nearest, one_way, one_way_gradients

from bench.api import Batch, Phase
from bench.defenses.cleanclip import CleanCLIP, CleanCLIPParams
from bench.defenses.safeclip import SafeCLIP, SafeCLIPParams

TAUS = [1.0, 0.07, 0.02]
SHAPES = [(1, 3), (2, 1), (6, 4), (17, 8), (32, 16)]
DTYPES = [torch.float32, torch.float64]
UNIMODAL = Phase("unimodal", None, ("strong", "strong"), ("eda", "eda"))


def _views(n: int, dim: int, dtype: torch.dtype) -> Batch:
    """Two views of n images and of n captions, as embeddings."""
    one, other, text, changed = (unit(n, dim, seed=seed, dtype=dtype).requires_grad_() for seed in range(4))
    return Batch(torch.arange(n), (one, other), (text, changed))


def _rows(views: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(view.detach().double().numpy() for view in views)


def _close(found: torch.Tensor | None, expected: np.ndarray | float, tau: float) -> None:
    """Within 1e-5, of values and gradients that grow with the scale."""
    assert found is not None
    assert torch.allclose(
        found.double(), torch.as_tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5 * max(1, 0.1 / tau)
    )


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.0, 1.0, 8.0])
def test_cleanclip_weighs_the_mean_of_both_modalities(
    shape: tuple[int, int], dtype: torch.dtype, tau: float, weight: float
) -> None:
    views = _views(*shape, dtype)
    found = CleanCLIP(CleanCLIPParams(weight=weight), train_setup(40)).loss(views, Identity(tau, dtype), Phase("finetune"))
    found.backward()
    (image, augmented_image), (text, augmented_text) = _rows(views.images), _rows(views.texts)
    in_modal = (one_way(image, augmented_image, tau) + one_way(text, augmented_text, tau)) / 2
    _close(found, eq1(image, text, tau) + weight * in_modal, tau)
    by_image, by_text = one_way_gradients(image, text, tau), one_way_gradients(text, image, tau)
    images, texts = one_way_gradients(image, augmented_image, tau), one_way_gradients(text, augmented_text, tau)
    scaled = tau / max(1.0, weight)  # so that one tolerance does for all
    for view, expected in (
        (views.images[0], (by_image[0] + by_text[1]) / 2 + weight / 2 * images[0]),
        (views.texts[0], (by_image[1] + by_text[0]) / 2 + weight / 2 * texts[0]),
        (views.images[1], weight / 2 * images[1]),
        (views.texts[1], weight / 2 * texts[1]),
    ):
        assert view.grad is not None
        _close(scaled * view.grad, scaled * expected, 1.0)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_safeclip_without_a_pool_is_two_sided_contrast_of_the_views(
    shape: tuple[int, int], dtype: torch.dtype, tau: float
) -> None:
    views, encoder = _views(*shape, dtype), Identity(tau, dtype)
    found = SafeCLIP(SafeCLIPParams(use_pool=False), train_setup(40)).loss(views, encoder, UNIMODAL)
    found.backward()
    expected = 0.0
    for first, second in (views.images, views.texts):
        a, b = _rows((first, second))
        expected += (one_way(a, b, tau) + one_way(b, a, tau)) / 2
        there, back = one_way_gradients(a, b, tau), one_way_gradients(b, a, tau)
        assert first.grad is not None
        assert second.grad is not None
        _close(tau * first.grad, tau * (there[0] + back[1]) / 2, 1.0)
        _close(tau * second.grad, tau * (there[1] + back[0]) / 2, 1.0)
    _close(found, expected, tau)
    assert encoder.scale.grad is None


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("n", [1, 6, 17, 32])
def test_safeclip_with_a_pool_has_eq_2_and_the_gradient_of_the_second_view(n: int, tau: float) -> None:
    """Pools hold float32."""
    defense, views = SafeCLIP(SafeCLIPParams(pool=10), train_setup(40)), _views(n, DIM, torch.float32)
    defense.before_epoch(0, FakeScorer(np.zeros(40, dtype=np.float32)))
    chosen = np.random.default_rng([*b"pool"]).permutation(40)[:10]
    found = defense.loss(views, Identity(tau, torch.float32), UNIMODAL)
    found.backward()
    expected = 0.0
    for (first, second), pool in ((views.images, image_embedding(chosen)), (views.texts, text_embedding(chosen))):
        a, b = _rows((first, second))
        neighbours = nearest(a, pool.double().numpy())
        expected += one_way(neighbours, b, tau)
        assert first.grad is None
        assert second.grad is not None
        _close(tau * second.grad, tau * one_way_gradients(neighbours, b, tau)[1], 1.0)
    _close(found, expected, tau)
