from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attack_world import random_images

from bench.api import PoisonPlan
from bench.attacks.wanet import WaNet, WaNetParams


def _plan(attack: WaNet, side: int, seed: int = 0) -> PoisonPlan:
    return PoisonPlan(attack="x", targets=(), poisons=(), tensors=attack.pattern(side, np.random.default_rng(seed)))


def _control(grid: int, seed: int) -> np.ndarray:
    """Uniform in [-1, 1], divided by the mean absolute value."""
    control = np.random.default_rng(seed).uniform(-1, 1, size=(1, 2, grid, grid))[0]
    return control / np.abs(control).mean()


@pytest.mark.parametrize("grid", [2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_field_passes_through_the_normalised_control_grid(grid: int, seed: int) -> None:
    """With corners aligned, every (steps)th pixel of the upsampled field lies on a control point."""
    steps = 5
    side = steps * (grid - 1) + 1
    field = _plan(WaNet(WaNetParams(grid=grid)), side, seed).tensors["field"]
    assert field.shape == (side, side, 2)
    on_grid = field[::steps, ::steps].permute(2, 0, 1).numpy()
    assert np.abs(on_grid).mean() == pytest.approx(1, rel=1e-5)
    assert np.allclose(on_grid, _control(grid, seed), atol=1e-5)


def _kernel(distance: float, a: float = -0.75) -> float:
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


@pytest.mark.parametrize(("grid", "side"), [(4, 8), (4, 32), (3, 11)])
def test_the_field_is_smooth_between_as_a_cubic_convolution(grid: int, side: int) -> None:
    field, control = _plan(WaNet(WaNetParams(grid=grid)), side).tensors["field"], _control(grid, 0)
    for row in range(side):
        for column in range(0, side, 3):
            y, x = row * (grid - 1) / (side - 1), column * (grid - 1) / (side - 1)
            total = np.zeros(2)
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    point = control[:, np.clip(i, 0, grid - 1), np.clip(j, 0, grid - 1)]
                    total += point * _kernel(y - i) * _kernel(x - j)
            assert np.allclose(field[row, column].numpy(), total, atol=1e-4)


def _warp(image: np.ndarray, field: np.ndarray, strength: float, reference: int) -> np.ndarray:
    """Backward bilinear warp; a shift of 1 in the field is strength/reference of half an image."""
    side = image.shape[-1]
    half = (side - 1) / 2
    warped = np.empty(image.shape)
    for row in range(side):
        for column in range(side):
            x = np.clip(column + field[row, column, 0] * strength / reference * half, 0, side - 1)
            y = np.clip(row + field[row, column, 1] * strength / reference * half, 0, side - 1)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, side - 1), min(y0 + 1, side - 1)
            upper = image[:, y0, x0] * (1 - (x - x0)) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - (x - x0)) + image[:, y1, x1] * (x - x0)
            warped[:, row, column] = upper * (1 - (y - y0)) + lower * (y - y0)
    return warped


@pytest.mark.parametrize(("side", "strength", "reference"), [(8, 0.5, 32), (32, 0.5, 32), (32, 4.0, 32), (25, 2.0, 10)])
def test_the_warp_against_a_loop_over_pixels(side: int, strength: float, reference: int) -> None:
    attack = WaNet(WaNetParams(strength=strength, reference_side=reference))
    plan, images = _plan(attack, side), random_images(2, side)
    edited = attack.apply(images, [{}, {}], plan)
    field = plan.tensors["field"].double().numpy()
    for image, after in zip(images.double().numpy(), edited.numpy(), strict=True):
        exact = _warp(image, field, strength, reference)
        assert (np.abs(after - exact) <= 0.5 + 5e-3).all()


def _shift(strength: float, side: int, reference: int = 32) -> torch.Tensor:
    """The shift of the columns of a ramp by a warp, in pixels, away from the border."""
    ramp = torch.linspace(20, 235, side).expand(1, 3, side, side).clone()
    attack = WaNet(WaNetParams(strength=strength, reference_side=reference))
    moved = attack.apply(ramp, [{}], _plan(attack, side)).float()
    rim = side // 4
    return ((moved - ramp) / (215 / (side - 1)))[0, 0, rim:-rim, rim:-rim]


def test_shifts_scale_with_strength_and_with_the_side() -> None:
    one, two = _shift(1, 64), _shift(2, 64)
    assert one.abs().max() > 1
    assert torch.allclose(two, 2 * one, atol=0.5)
    assert _shift(1, 128).abs().mean() == pytest.approx(2 * float(one.abs().mean()), rel=0.1)
    assert torch.allclose(_shift(1, 64, reference=16), two, atol=1e-6)


@pytest.mark.parametrize("value", [0, 7, 128, 255])
def test_a_constant_image_is_unchanged(value: int) -> None:
    attack = WaNet(WaNetParams(strength=6))
    flat = torch.full((2, 3, 32, 32), value, dtype=torch.uint8)
    assert torch.equal(attack.apply(flat, [{}, {}], _plan(attack, 32)), flat)


def test_the_field_is_the_same_for_all_images_of_a_seed() -> None:
    attack, images = WaNet(WaNetParams(strength=3)), random_images(1, 32).expand(4, -1, -1, -1)
    edited = attack.apply(images, [{}] * 4, _plan(attack, 32))
    assert all(torch.equal(edited[0], each) for each in edited)
    assert torch.equal(_plan(attack, 32).tensors["field"], _plan(attack, 32).tensors["field"])
    assert not torch.equal(_plan(attack, 32).tensors["field"], _plan(attack, 32, seed=1).tensors["field"])


def test_a_warp_of_strength_zero_changes_nothing() -> None:
    attack, images = WaNet(WaNetParams(strength=1e-6)), random_images(2, 32)
    assert torch.equal(attack.apply(images, [{}, {}], _plan(attack, 32)), images)
