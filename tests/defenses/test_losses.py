from __future__ import annotations

import math
from collections.abc import Callable

import open_clip
import pytest
import torch
from defense_fakes import unit
from loss_formulas import eq1, nearest, one_way

from bench.defenses.losses import clip_loss, contrast, nn_contrastive_loss

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
SHAPES = [(1, 3), (2, 1), (5, 8), (17, 4), (40, 16)]
DTYPES = [torch.float32, torch.float64]
WITH_GRADIENT: list[Loss] = [contrast, clip_loss]


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-10 if dtype == torch.float64 else 2e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tau", [1.0, 0.07, 0.02])
def test_values_against_sums_over_pairs(shape: tuple[int, int], dtype: torch.dtype, tau: float) -> None:
    a, b = unit(*shape, seed=1, dtype=dtype), unit(*shape, seed=2, dtype=dtype)
    scale = torch.tensor(1 / tau, dtype=dtype)
    rows, others = a.double().tolist(), b.double().tolist()
    for loss, expected in (
        (clip_loss, eq1(rows, others, tau)),
        (contrast, one_way(rows, others, tau)),
        (nn_contrastive_loss, one_way(rows, others, tau)),
    ):
        found = loss(a, b, scale)
        assert found.shape == ()
        assert found.dtype == dtype
        assert found.item() == pytest.approx(expected, rel=_tolerance(dtype), abs=_tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_clip_loss_and_gradient_are_those_of_open_clip(shape: tuple[int, int], dtype: torch.dtype) -> None:
    gradients, values = [], []
    for loss in (clip_loss, open_clip.ClipLoss()):
        inputs = [
            unit(*shape, seed=3, dtype=dtype).requires_grad_(),
            unit(*shape, seed=4, dtype=dtype).requires_grad_(),
            torch.tensor(14.3, dtype=dtype, requires_grad=True),
        ]
        value = loss(*inputs)
        values.append(value)
        gradients.append(torch.autograd.grad(value, inputs))
    assert torch.allclose(values[0], values[1], atol=_tolerance(dtype))
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=_tolerance(dtype))


@pytest.mark.parametrize("loss", WITH_GRADIENT)
@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (6, 5)])
def test_gradients_against_finite_differences(loss: Loss, shape: tuple[int, int]) -> None:
    a = unit(*shape, seed=5, dtype=torch.float64).requires_grad_()
    b = unit(*shape, seed=6, dtype=torch.float64).requires_grad_()
    scale = torch.tensor(3.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (a, b, scale))


def test_contrast_gradient_in_closed_form() -> None:
    a = unit(7, 5, seed=7, dtype=torch.float64).requires_grad_()
    b = unit(7, 5, seed=8, dtype=torch.float64).requires_grad_()
    contrast(a, b, torch.tensor(9.0, dtype=torch.float64)).backward()
    with torch.no_grad():
        residual = (torch.softmax(9 * a @ b.T, dim=1) - torch.eye(7)) * 9 / 7
    assert a.grad is not None
    assert b.grad is not None
    assert torch.allclose(a.grad, residual @ b)
    assert torch.allclose(b.grad, residual.T @ a)


def test_no_gradient_into_neighbours() -> None:
    anchors = unit(6, 5, seed=9, dtype=torch.float64).requires_grad_()
    second = unit(6, 5, seed=10, dtype=torch.float64).requires_grad_()
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    nn_contrastive_loss(2 * anchors, second, scale).backward()
    assert anchors.grad is None
    assert second.grad is not None
    assert scale.grad is not None
    fixed = (2 * anchors).detach()
    assert torch.autograd.gradcheck(lambda view, s: nn_contrastive_loss(fixed, view, s), (second, scale))


def test_eq_2_with_a_pool() -> None:
    pool, first, second = (unit(rows, 6, seed=seed, dtype=torch.float64) for rows, seed in ((20, 11), (9, 12), (9, 13)))
    neighbours = nearest(first.tolist(), pool.tolist())
    expected = one_way(neighbours, second.tolist(), 0.1)
    found = nn_contrastive_loss(torch.from_numpy(neighbours), second, torch.tensor(10.0, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss", [*WITH_GRADIENT, nn_contrastive_loss])
def test_the_order_of_pairs_does_not_matter(loss: Loss) -> None:
    a, b = unit(23, 6, seed=14, dtype=torch.float64), unit(23, 6, seed=15, dtype=torch.float64)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(6.0, dtype=torch.float64)
    assert torch.allclose(loss(a, b, scale), loss(a[order], b[order], scale), atol=1e-12)
    assert not torch.allclose(loss(a, b, scale), loss(a, b[order], scale), atol=1e-3)


def test_clip_loss_is_symmetric_and_contrast_is_not() -> None:
    a, b = unit(9, 4, seed=16, dtype=torch.float64), unit(9, 4, seed=17, dtype=torch.float64)
    scale = torch.tensor(6.0, dtype=torch.float64)
    assert torch.allclose(clip_loss(a, b, scale), clip_loss(b, a, scale))
    assert not torch.allclose(contrast(a, b, scale), contrast(b, a, scale), atol=1e-4)


@pytest.mark.parametrize("n", [2, 5, 16])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_closed_forms(n: int, scale: float) -> None:
    same = torch.ones(n, 1, dtype=torch.float64)
    s = torch.tensor(scale, dtype=torch.float64)
    assert clip_loss(same, same, s).item() == pytest.approx(math.log(n))
    basis = torch.eye(n, dtype=torch.float64)
    expected = math.log1p((n - 1) * math.exp(-scale))
    assert clip_loss(basis, basis, s).item() == pytest.approx(expected, abs=1e-12)
    assert clip_loss(basis, basis.roll(1, dims=0), s).item() == pytest.approx(scale + expected)


def test_large_scales_do_not_overflow() -> None:
    a, b = unit(8, 4, seed=18), unit(8, 4, seed=19)
    assert torch.isfinite(clip_loss(a, -a, torch.tensor(100.0)))
    assert torch.isfinite(clip_loss(a, b, torch.tensor(1000.0)))
