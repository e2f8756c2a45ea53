"""Views of a batch on a GPU are those of the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.data.augment import random_crop, simclr

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
VIEWS: dict[str, View] = {
    "light": lambda images, generator: random_crop(images, 0.9, generator),
    "mirrored": lambda images, generator: random_crop(images, 0.08, generator, flip=True),
    "strong": lambda images, generator: simclr(images, 0.08, 1.0, generator),
}


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_differs_by_less_than_a_ten_thousandth(view: str, side: int, gpu: torch.device) -> None:
    """Of a picture as smooth as photographs are; on noise a pixel's place, rounded otherwise, counts for more."""
    coarse = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(coarse, side, mode="bicubic", antialias=True).clamp(0, 1)
    here, there = (VIEWS[view](images.clone().to(device), torch.Generator().manual_seed(2)).cpu() for device in ("cpu", gpu))
    assert not torch.equal(here, images)
    assert float((here - there).abs().max()) < 1e-4
