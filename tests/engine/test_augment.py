import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resized_crop

from bench.data.augment import random_crop, to_float

SIDE = 32


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def _crop(images: torch.Tensor, smallest: float, seed: int = 0) -> torch.Tensor:
    return random_crop(images, smallest, torch.Generator().manual_seed(seed))


def test_to_float() -> None:
    every = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    made = to_float(every)
    assert made.dtype == torch.float32
    assert np.allclose(made.numpy(), every.numpy() / 255, atol=1e-7)
    assert torch.equal((made * 255).round().to(torch.uint8), every)


def test_identity_at_one(images: torch.Tensor) -> None:
    assert torch.equal(_crop(images, 1.0), images)
    assert torch.allclose(_crop(images, 1 - 1e-7), images, atol=1e-3)


def test_follows_the_generator(images: torch.Tensor) -> None:
    assert torch.equal(_crop(images, 0.5), _crop(images, 0.5))
    assert not torch.equal(_crop(images, 0.5), _crop(images, 0.5, seed=1))
    twins = images[:1].expand(5, -1, -1, -1)
    made = _crop(twins, 0.5)
    assert not torch.equal(made[0], made[1])


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 9), (16, 16), (5, 0)])
def test_a_crop_on_whole_pixels_is_torchvisions(
    images: torch.Tensor, left: int, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = SIDE // 2
    draws = torch.tensor([[0.0, left / half, top / half, 0.9]]).repeat(5, 1)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    made = _crop(images, 0.25)
    expected = resized_crop(
        images, top, left, half, half, [SIDE, SIDE], interpolation=InterpolationMode.BILINEAR, antialias=False
    )
    inside = slice(1, -1)  # at its rim torchvision's crop does not see the image around it
    assert torch.allclose(made[..., inside, inside], expected[..., inside, inside], atol=1e-5)


def _bilinear(image: np.ndarray, scale: float, left: float, top: float) -> np.ndarray:
    made = np.empty_like(image)
    for row in range(SIDE):
        for column in range(SIDE):
            y = np.clip(top + (row + 0.5) * scale - 0.5, 0, SIDE - 1)
            x = np.clip(left + (column + 0.5) * scale - 0.5, 0, SIDE - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, SIDE - 1), min(x0 + 1, SIDE - 1)
            upper = image[:, y0, x0] * (1 - (x - x0)) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - (x - x0)) + image[:, y1, x1] * (x - x0)
            made[:, row, column] = upper * (1 - (y - y0)) + lower * (y - y0)
    return made


@pytest.mark.parametrize("flip", [False, True])
def test_any_crop_against_a_loop_over_pixels(images: torch.Tensor, flip: bool) -> None:
    draws = torch.rand(5, 4, generator=torch.Generator().manual_seed(7)).double().numpy()
    made = random_crop(images, 0.4, torch.Generator().manual_seed(7), flip).numpy()
    assert 0 < (draws[:, 3] < 0.5).sum() < 5
    for image, crop, (area, x, y, coin) in zip(images.numpy(), made, draws, strict=True):
        scale = np.sqrt(0.4 + 0.6 * area)
        room = SIDE * (1 - scale)
        expected = _bilinear(image, scale, x * room, y * room)
        assert np.allclose(crop, expected[..., ::-1] if flip and coin < 0.5 else expected, atol=1e-4)


@pytest.mark.parametrize("side", [32, 33, 224])
def test_a_crop_is_the_affine_one_of_pytorch_to_the_bit(side: int) -> None:
    images = torch.rand(5, 3, side, side, generator=torch.Generator().manual_seed(1))
    draws = torch.rand(5, 4, generator=torch.Generator().manual_seed(7))
    scale = (0.4 + (1 - 0.4) * draws[:, 0]).sqrt()
    theta = torch.diag_embed(torch.stack([torch.where(draws[:, 3] < 0.5, -scale, scale), scale], dim=1))
    theta = torch.cat([theta, ((2 * draws[:, 1:3] - 1) * (1 - scale)[:, None])[:, :, None]], dim=2)
    expected = F.grid_sample(
        images, F.affine_grid(theta, [5, 3, side, side], False), padding_mode="border", align_corners=False
    )
    assert torch.equal(random_crop(images, 0.4, torch.Generator().manual_seed(7), flip=True), expected)


def test_areas_and_places_are_spread_and_within_the_image() -> None:
    ramp = torch.arange(SIDE).float().expand(3, SIDE, SIDE)
    both = torch.cat([ramp, ramp.mT])[None].expand(2000, -1, -1, -1)
    made = torch.cat([_crop(both[:, :3], 0.36, 3), _crop(both[:, 3:], 0.36, 3)], dim=1)[:, [0, 3], 8:24, 8:24]
    width = (made[:, 0, 0, -1] - made[:, 0, 0, 0]) / 15 * SIDE
    height = (made[:, 1, -1, 0] - made[:, 1, 0, 0]) / 15 * SIDE
    assert torch.allclose(width, height, atol=1e-2)
    area = (width / SIDE) ** 2
    assert area.min() >= 0.36 - 1e-3
    assert area.max() <= 1 + 1e-3
    assert torch.allclose(area.quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([0.52, 0.68, 0.84]), atol=0.03)
    left = made[:, 0, 0, 0] + 0.5 - 8.5 / SIDE * width
    share = left / (SIDE - width).clamp(min=1e-6)
    usable = width < SIDE - 2
    assert share[usable].min() > -0.01
    assert share[usable].max() < 1.01
    assert abs(share[usable].median() - 0.5) < 0.05
