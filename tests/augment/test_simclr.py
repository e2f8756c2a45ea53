from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bench.data import augment
from bench.data.augment import random_crop, simclr

SIDE = 16


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int, side: int = SIDE) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=_generator(99))


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("kind", ["random", "black", "white"])
def test_views_stay_in_the_range(side: int, kind: str) -> None:
    images = {"random": _images(64, side), "black": torch.zeros(64, 3, side, side), "white": torch.ones(64, 3, side, side)}[
        kind
    ]
    made = simclr(images, 0.2, 1.0, _generator())
    assert made.shape == images.shape
    assert made.dtype == torch.float32
    assert made.min() >= 0
    assert made.max() <= 1


@pytest.mark.parametrize("side", [8, 15, 32])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_those_of_an_affine_grid(side: int, flip: bool) -> None:
    images, draws = _images(40, side), torch.rand(40, 4, generator=_generator(3))
    scale = (0.2 + 0.8 * draws[:, 0]).sqrt()
    theta = torch.zeros(40, 2, 3)
    theta[:, 0, 0] = torch.where(draws[:, 3] < 0.5, -scale, scale) if flip else scale
    theta[:, 1, 1] = scale
    theta[:, :, 2] = (2 * draws[:, 1:3] - 1) * (1 - scale)[:, None]
    grid = F.affine_grid(theta, [40, 3, side, side], align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    assert torch.allclose(random_crop(images, 0.2, _generator(3), flip), expected, rtol=0, atol=1e-5)


def test_views_depend_on_the_generator_only() -> None:
    images = _images(8)
    before = images.clone()
    torch.manual_seed(0)
    first = simclr(images, 0.2, 1.0, _generator(1))
    torch.manual_seed(1)
    assert torch.equal(first, simclr(images, 0.2, 1.0, _generator(1)))
    assert not torch.equal(first, simclr(images, 0.2, 1.0, _generator(2)))
    assert torch.equal(images, before)


def test_equal_images_are_augmented_independently() -> None:
    made = simclr(_images(1).expand(6, -1, -1, -1), 0.2, 1.0, _generator())
    assert all(not torch.equal(made[i], made[j]) for i in range(6) for j in range(i))


def _share(hits: torch.Tensor, expected: float) -> None:
    n = len(hits)
    assert abs(hits.float().mean().item() - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize(("colour", "side"), [(1.0, 4), (0.5, 4), (0.25, 14), (1.0, 8)])
def test_probabilities_of_the_operations(monkeypatch: pytest.MonkeyPatch, colour: float, side: int) -> None:
    """Shares of 0.8, 0.2 and 0.5 and uniform strengths, read from what is asked of the two colour and blur functions."""
    seen: dict[str, torch.Tensor] = {}

    def jitter(images: torch.Tensor, b: torch.Tensor, c: torch.Tensor, s: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        seen.update(brightness=b, contrast=c, saturation=s, hue=h)
        return images

    def blurred(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen["sigma"] = sigma
        return images

    monkeypatch.setattr(augment, "colour_jitter", jitter)
    monkeypatch.setattr(augment, "blur", blurred)
    n = 8000
    simclr(_images(1, side).expand(n, -1, -1, -1), 0.2, colour, _generator())
    gray, jittered = seen["saturation"] == 0, seen["hue"] != 0
    _share(gray, 0.2 * colour)
    _share(jittered, 0.8)
    _share(seen["sigma"] > 0, 0.5)
    _share(gray & jittered, 0.16 * colour)
    _share(jittered & (seen["sigma"] > 0), 0.4)
    for name, low, high, rows in (
        ("brightness", 1 - 0.4 * colour, 1 + 0.4 * colour, jittered),
        ("contrast", 1 - 0.4 * colour, 1 + 0.4 * colour, jittered),
        ("saturation", 1 - 0.4 * colour, 1 + 0.4 * colour, jittered & ~gray),
        ("hue", -0.1 * colour, 0.1 * colour, jittered),
        ("sigma", 0.1 * side / 224, 2.0 * side / 224, seen["sigma"] > 0),
    ):
        position = (seen[name][rows] - low) / (high - low)
        assert position.min() >= -1e-6
        assert position.max() <= 1 + 1e-6
        assert torch.allclose(position.quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([0.25, 0.5, 0.75]), atol=0.03)
    assert (seen["brightness"][~jittered] == 1).all()
    assert (seen["contrast"][~jittered] == 1).all()
    assert (seen["saturation"][~jittered & ~gray] == 1).all()


def test_without_colour_changes_a_flat_image_stays_and_the_rest_is_a_mirror() -> None:
    flat = _images(200, 1).expand(-1, -1, SIDE, SIDE)
    assert torch.allclose(simclr(flat, 0.2, 0.0, _generator()), flat, atol=1e-5)
    images = _images(200, 8)
    made = simclr(images, 1.0, 0.0, _generator())
    either = torch.stack([(made - images).abs(), (made - images.flip(3)).abs()]).amax(dim=(2, 3, 4)).amin(dim=0)
    assert either.max() < 1e-5


def test_probabilities_of_grayscale_and_flip() -> None:
    """The same read from pixels: a red image turns gray, and a ramp turns round."""
    red = torch.zeros(3000, 3, 8, 8)
    red[:, 0] = 0.8
    made = simclr(red, 0.5, 1.0, _generator())
    _share((made[:, 0] - made[:, 1]).abs().amax(dim=(1, 2)) < 1e-3, 0.2)
    ramp = torch.linspace(0.3, 0.7, 8).expand(3000, 3, 8, 8)
    made = simclr(ramp, 0.5, 1.0, _generator()).mean(dim=1)
    _share(made[:, 4, 1] > made[:, 4, -2], 0.5)


def test_the_area_is_that_of_the_crop() -> None:
    ramp = torch.linspace(0, 1, 32).expand(2000, 3, 32, 32)
    whole = simclr(ramp, 1.0, 1.0, _generator())
    assert (whole.std(dim=(1, 2, 3)) > 0.1).all()
    small = simclr(ramp, 0.05, 1.0, _generator())
    assert small.std(dim=(1, 2, 3)).median() < 0.85 * whole.std(dim=(1, 2, 3)).median()
