"""Outlines of the objects in `scenes`, rasterised once into masks that the renderer warps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Coordinates = NDArray[np.float64]
Mask = NDArray[np.bool_]
Outline = Callable[[Coordinates, Coordinates], Mask]


def _disc(x: Coordinates, y: Coordinates, cx: float, cy: float, radius: float) -> Mask:
    return (x - cx) ** 2 + (y - cy) ** 2 < radius**2


def _box(x: Coordinates, y: Coordinates, left: float, top: float, right: float, bottom: float) -> Mask:
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _polygon(x: Coordinates, y: Coordinates, corners: list[tuple[float, float]]) -> Mask:
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def _star_corners(points: int, inner: float) -> list[tuple[float, float]]:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 0.98, inner)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _heart(x: Coordinates, y: Coordinates) -> Mask:
    u, v = 1.25 * x, -1.25 * y + 0.12
    return (u**2 + v**2 - 1) ** 3 - u**2 * v**3 < 0


# Coordinates are in [-1, 1]; y points down.
OUTLINES: dict[str, Outline] = {
    "circle": lambda x, y: _disc(x, y, 0, 0, 0.85),
    "square": lambda x, y: _box(x, y, -0.75, -0.75, 0.75, 0.75),
    "triangle": lambda x, y: _polygon(x, y, [(0, -0.9), (0.9, 0.75), (-0.9, 0.75)]),
    "star": lambda x, y: _polygon(x, y, _star_corners(5, 0.4)),
    "heart": _heart,
    "ring": lambda x, y: _disc(x, y, 0, 0, 0.9) & ~_disc(x, y, 0, 0, 0.48),
    "cross": lambda x, y: _box(x, y, -0.28, -0.9, 0.28, 0.9) | _box(x, y, -0.9, -0.28, 0.9, 0.28),
    "crescent": lambda x, y: _disc(x, y, 0, 0, 0.9) & ~_disc(x, y, 0.45, -0.1, 0.75),
    "arrow": lambda x, y: _box(x, y, -0.9, -0.22, 0.2, 0.22) | _polygon(x, y, [(0.1, -0.75), (0.95, 0), (0.1, 0.75)]),
    "house": lambda x, y: (
        _box(x, y, -0.65, -0.1, 0.65, 0.9) & ~_box(x, y, -0.2, 0.35, 0.2, 0.9)
        | _polygon(x, y, [(0, -0.95), (0.95, -0.1), (-0.95, -0.1)])
    ),
    "mushroom": lambda x, y: _disc(x, y, 0, 0, 0.92) & (y < 0.05) | _box(x, y, -0.25, 0, 0.25, 0.92),
    "fish": lambda x, y: (
        (((x + 0.15) / 0.75) ** 2 + (y / 0.48) ** 2 < 1) | _polygon(x, y, [(0.35, 0), (0.95, -0.6), (0.95, 0.6)])
    ),
}


def masks(side: int = 128) -> torch.Tensor:
    """The coverage of each pixel by each outline, in the order of `OUTLINES`: float32 (classes, 1, side, side) in [0, 1]."""
    oversampled = 4 * side
    axis = (np.arange(oversampled) + 0.5) / oversampled * 2 - 1
    x, y = np.meshgrid(axis, axis)
    rasters = np.stack([outline(x, y) for outline in OUTLINES.values()]).astype(np.float32)
    return torch.nn.functional.avg_pool2d(torch.from_numpy(rasters)[:, None], 4)
