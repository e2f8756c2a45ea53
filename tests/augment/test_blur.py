from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from bench.data.augment import blur


def _images(side: int, n: int = 4) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (32, 3), (64, 7), (100, 11), (224, 23)])
def test_against_torchvision(side: int, kernel: int) -> None:
    images, sigmas = _images(side, 3), [0.1, 0.9, 2.0]
    made = blur(images, torch.tensor(sigmas))
    expected = torch.stack([tv.gaussian_blur(i, [kernel, kernel], [s, s]) for i, s in zip(images, sigmas, strict=True)])
    assert torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize("side", [8, 32, 64])
def test_sigma_zero_is_none(side: int) -> None:
    images = _images(side)
    assert torch.equal(blur(images, torch.zeros(4)), images)
    mixed = blur(images, torch.tensor([0.0, 2.0, 0.0, 2.0]))
    assert torch.equal(mixed[::2], images[::2])
    assert not torch.allclose(mixed[1::2], images[1::2], atol=1e-2)


def test_a_constant_image_is_unchanged() -> None:
    flat = torch.full((2, 3, 32, 32), 0.3)
    assert torch.allclose(blur(flat, torch.tensor([1.0, 2.0])), flat, atol=1e-6)
