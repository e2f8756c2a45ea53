from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_world import random_images

from bench.attacks.triggers import checkerboard, paste, scaled


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [(16, 224, 16), (16, 112, 8), (16, 32, 2), (16, 64, 5), (1, 32, 1), (0.1, 8, 1), (224, 32, 32), (21, 224, 21), (21, 32, 3)],
)
def test_scaled(size: float, side: int, expected: int) -> None:
    assert scaled(size, side) == expected


@pytest.mark.parametrize(("side", "cells"), [(1, 3), (2, 3), (3, 3), (6, 3), (7, 3), (16, 3), (21, 3), (12, 4), (5, 2)])
def test_checkerboard_pixel_by_pixel(side: int, cells: int) -> None:
    board = checkerboard(side, cells)
    cell = -(-side // cells)
    assert board.shape == (3, side, side)
    assert board.dtype == torch.uint8
    for row in range(side):
        for column in range(side):
            white = (row // cell + column // cell) % 2 == 0
            assert board[:, row, column].tolist() == [255 * white] * 3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (2, 5), (9, 7)])
@pytest.mark.parametrize("n", [1, 4])
def test_paste_pixel_by_pixel(height: int, width: int, n: int) -> None:
    rng = np.random.default_rng(height * width + n)
    images = random_images(n, 9)[:, :, :, :8]
    before = images.clone()
    pattern = random_images(1, 9, seed=1)[0, :, :height, :width]
    tops, lefts = rng.integers(9 - height + 1, size=n), rng.integers(8 - width + 1, size=n)
    pasted = paste(images, pattern, torch.from_numpy(tops), torch.from_numpy(lefts))
    assert torch.equal(images, before)
    for image in range(n):
        for row in range(9):
            for column in range(8):
                y, x = row - tops[image], column - lefts[image]
                inside = 0 <= y < height and 0 <= x < width
                expected = pattern[:, y, x] if inside else images[image, :, row, column]
                assert torch.equal(pasted[image, :, row, column], expected)
