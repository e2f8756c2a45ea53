from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from bench.data.augment import colour_jitter

ONE, NONE = torch.ones(6), torch.zeros(6)
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(params=[(8, 8), (17, 5)])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    """Values in the middle of the range, so that torchvision does not clip either."""
    return 0.4 + 0.2 * torch.rand(6, 3, *request.param, generator=torch.Generator().manual_seed(1))


def _each(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)


FACTORS = [0.6, 0.8, 1.0, 1.1, 1.2, 1.4]


def test_brightness(images: torch.Tensor) -> None:
    made = colour_jitter(images, _each(FACTORS), ONE, ONE, NONE)
    expected = torch.stack([tv.adjust_brightness(i, f) for i, f in zip(images, FACTORS, strict=True)])
    assert torch.allclose(made, expected, atol=2e-3)


def test_contrast(images: torch.Tensor) -> None:
    made = colour_jitter(images, ONE, _each(FACTORS), ONE, NONE)
    expected = torch.stack([tv.adjust_contrast(i, f) for i, f in zip(images, FACTORS, strict=True)])
    assert torch.allclose(made, expected, atol=2e-3)


def test_saturation(images: torch.Tensor) -> None:
    made = colour_jitter(images, ONE, ONE, _each(FACTORS), NONE)
    expected = torch.stack([tv.adjust_saturation(i, f) for i, f in zip(images, FACTORS, strict=True)])
    assert torch.allclose(made, expected, atol=2e-3)


def test_all_in_the_order_of_their_names(images: torch.Tensor) -> None:
    rng = np.random.default_rng(0)
    b, c, s = (rng.uniform(0.7, 1.3, size=6).astype(np.float32) for _ in range(3))
    made = colour_jitter(images, torch.from_numpy(b), torch.from_numpy(c), torch.from_numpy(s), NONE)
    for image, row, (x, y, z) in zip(images, made, zip(b, c, s, strict=True), strict=True):
        expected = tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(image, float(x)), float(y)), float(z))
        assert torch.allclose(row, expected, atol=3e-3)


def test_nothing_to_do(images: torch.Tensor) -> None:
    assert torch.allclose(colour_jitter(images, ONE, ONE, ONE, NONE), images, atol=1e-5)
    assert torch.allclose(colour_jitter(images, ONE, ONE, ONE, ONE), images, atol=1e-5)


def test_saturation_zero_is_grayscale(images: torch.Tensor) -> None:
    made = colour_jitter(images, ONE, ONE, NONE, 0.1 * ONE)
    gray = torch.einsum("c,nchw->nhw", torch.tensor(LUMA, dtype=torch.float32), images)
    assert torch.allclose(made, gray[:, None].expand(-1, 3, -1, -1), atol=1e-5)
    assert torch.allclose(made, tv.rgb_to_grayscale(images, 3), atol=2e-3)


@pytest.mark.parametrize("hue", [0.05, 0.1, -0.1, 0.37])
def test_hue_keeps_luma_and_chroma_and_turns_back(images: torch.Tensor, hue: float) -> None:
    made = colour_jitter(images, ONE, ONE, ONE, hue * ONE)
    weights = torch.tensor(LUMA, dtype=torch.float32)[:, None, None]
    assert torch.allclose((made * weights).sum(1), (images * weights).sum(1), atol=1e-5)
    assert not torch.allclose(made, images, atol=1e-2)
    assert torch.allclose(colour_jitter(made, ONE, ONE, ONE, -hue * ONE), images, atol=1e-5)


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.04, 0.1])
def test_hue_is_a_turn_in_yiq(hue: float) -> None:
    """Against the standard library's YIQ: angle and length of (I, Q)."""
    for rgb in [(0.9, 0.2, 0.1), (0.1, 0.5, 0.3), (0.4, 0.4, 0.8)]:
        image = torch.tensor(rgb)[None, :, None, None]
        made = colour_jitter(image, ONE[:1], ONE[:1], ONE[:1], torch.tensor([hue]))[0, :, 0, 0].tolist()
        _, i, q = colorsys.rgb_to_yiq(*rgb)
        r, g, b = made
        i2, q2 = 0.60 * r - 0.28 * g - 0.32 * b, 0.21 * r - 0.52 * g + 0.31 * b
        assert math.hypot(i2, q2) == pytest.approx(math.hypot(i, q), rel=0.05)
        turned = math.atan2(q2, i2) - math.atan2(q, i)
        assert math.remainder(turned - 2 * math.pi * hue, 2 * math.pi) == pytest.approx(0, abs=0.05)


def test_each_image_by_its_own_factors(images: torch.Tensor) -> None:
    rng = np.random.default_rng(1)
    factors = [torch.from_numpy(rng.uniform(0.6, 1.4, size=6).astype(np.float32)) for _ in range(3)]
    factors.append(torch.from_numpy(rng.uniform(-0.1, 0.1, size=6).astype(np.float32)))
    together = colour_jitter(images, *factors)
    for row in range(6):
        alone = colour_jitter(images[row : row + 1], *(each[row : row + 1] for each in factors))
        assert torch.allclose(together[row], alone[0], atol=1e-6)
