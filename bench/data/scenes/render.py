"""Render scenes in batches: a warped, coloured and textured shape with a dark edge on a patterned background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .grammar import BACKGROUNDS, COLOURS, SHAPES, TEXTURES
from .shapes import masks

_RGB = {
    "red": (0.85, 0.10, 0.10), "yellow": (0.96, 0.90, 0.15), "green": (0.10, 0.62, 0.18),
    "cyan": (0.15, 0.85, 0.88), "blue": (0.12, 0.22, 0.85), "purple": (0.52, 0.15, 0.68), "pink": (0.98, 0.55, 0.75),
    "white": (0.95, 0.95, 0.95),
}  # fmt: skip
_BATCH = 128
_EDGE = 0.08
_INSIDE = 0.82


@dataclass(frozen=True)
class Scenes:
    """The content of n images: attribute indices, int64 (n,), and poses, float32 (n,)."""

    shape: NDArray[np.int64]
    colour: NDArray[np.int64]
    texture: NDArray[np.int64]
    background: NDArray[np.int64]
    scale: NDArray[np.float32]
    angle: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    noise_seed: int

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def big(self) -> NDArray[np.bool_]:
        return self.scale > 0.875


def draw(rng: np.random.Generator, count: int) -> Scenes:
    """Draw `count` independent scenes with uniform attributes and poses that keep the object in view."""
    scale = rng.uniform(0.8, 0.95, count).astype(np.float32)
    room = 0.98 - scale
    return Scenes(
        shape=rng.integers(len(SHAPES), size=count),
        colour=rng.integers(len(COLOURS), size=count),
        texture=rng.integers(len(TEXTURES), size=count),
        background=rng.integers(len(BACKGROUNDS), size=count),
        scale=scale,
        angle=rng.uniform(-0.1, 0.1, count).astype(np.float32),
        x=(rng.uniform(-1, 1, count) * room).astype(np.float32),
        y=(rng.uniform(-1, 1, count) * room).astype(np.float32),
        noise_seed=int(rng.integers(2**31)),
    )


def render(scenes: Scenes, side: int) -> Tensor:
    """Render scenes at twice the resolution and average down: uint8 (n, 3, side, side)."""
    noise = torch.Generator().manual_seed(scenes.noise_seed)
    images = torch.empty(len(scenes), 3, side, side, dtype=torch.uint8)
    for start in range(0, len(scenes), _BATCH):
        rows = slice(start, min(start + _BATCH, len(scenes)))
        images[rows] = _render_batch(scenes, rows, side, noise)
    return images


def cover(scenes: Scenes, rows: NDArray[np.int64], side: int) -> Tensor:
    """The share of each pixel that the object covers: float32 (n, side, side)."""
    x, y = _axes(side)
    u, v = _object_axes(scenes, rows, x, y)
    outlines = _masks()[torch.from_numpy(scenes.shape[rows])]
    return F.avg_pool2d(F.grid_sample(outlines, torch.stack([u, v], dim=-1), align_corners=False), 2)[:, 0]


def _render_batch(scenes: Scenes, rows: slice, side: int, noise: torch.Generator) -> Tensor:
    x, y = _axes(side)
    u, v = _object_axes(scenes, rows, x, y)
    outlines = _masks()[torch.from_numpy(scenes.shape[rows])]
    mask = F.grid_sample(outlines, torch.stack([u, v], dim=-1), align_corners=False)
    ink = _textured(_colours(scenes.colour[rows], noise), torch.from_numpy(scenes.texture[rows]), u, v)
    inside = F.grid_sample(outlines, torch.stack([u, v], dim=-1) / _INSIDE, align_corners=False)
    ink = ink * (_EDGE + (1 - _EDGE) * inside)
    canvas = torch.lerp(_backgrounds(torch.from_numpy(scenes.background[rows]), x, y, noise), ink, mask)
    pixels = F.avg_pool2d(canvas, 2)
    pixels += 0.02 * torch.randn(pixels.shape, generator=noise)
    return (pixels.clamp_(0, 1) * 255).round().to(torch.uint8)


def _axes(side: int) -> tuple[Tensor, Tensor]:
    """The places x, y of the pixels of a picture of twice the side, from -1 to 1."""
    axis = (torch.arange(2 * side) + 0.5) / (2 * side) * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def _object_axes(scenes: Scenes, rows: slice | NDArray[np.int64], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same places as each object sees them."""
    scale, angle, dx, dy = (_column(getattr(scenes, name)[rows]) for name in ("scale", "angle", "x", "y"))
    along = (x - dx) / scale
    down = (y - dy) / scale
    return along * torch.cos(angle) + down * torch.sin(angle), down * torch.cos(angle) - along * torch.sin(angle)


def _column(values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values)[:, None, None]


@cache
def _masks() -> Tensor:
    return masks()


def _colours(colour: NDArray[np.int64], noise: torch.Generator) -> Tensor:
    palette = torch.tensor([_RGB[name] for name in COLOURS])
    jitter = 0.06 * torch.randn(len(colour), 3, generator=noise)
    return (palette[torch.from_numpy(colour)] + jitter).clamp(0, 1)[:, :, None, None]


def _textured(colour: Tensor, texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    marked = torch.zeros_like(u, dtype=torch.bool)
    for index, name in enumerate(TEXTURES):
        rows = texture == index
        marked[rows] = _PATTERNS[name](u[rows], v[rows])
    bright = colour.mean(dim=1, keepdim=True) > 0.5
    second = torch.where(bright, colour * 0.35, 0.45 * colour + 0.55)
    return torch.where(marked[:, None], second, colour)


_PATTERNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain": lambda u, v: torch.zeros_like(u, dtype=torch.bool),
    "striped": lambda u, v: torch.sin(v * 3.2 * np.pi) > 0.15,
    "dotted": lambda u, v: (torch.remainder(u * 2.2, 1) - 0.5) ** 2 + (torch.remainder(v * 2.2, 1) - 0.5) ** 2 < 0.075,
    "checkered": lambda u, v: (torch.sin(u * 2.2 * np.pi) > 0) ^ (torch.sin(v * 2.2 * np.pi) > 0),
}


def _backgrounds(kind: Tensor, x: Tensor, y: Tensor, noise: torch.Generator) -> Tensor:
    canvas = torch.empty(len(kind), 3, *x.shape)
    for index, name in enumerate(BACKGROUNDS):
        rows = kind == index
        canvas[rows] = _PAINTERS[name](x, y, int(rows.sum()), noise).clamp_(0, 1)
    return canvas


def _grain(x: Tensor, count: int, noise: torch.Generator) -> Tensor:
    return torch.randn(count, 1, *x.shape, generator=noise)


def _clouds(x: Tensor, count: int, noise: torch.Generator) -> Tensor:
    coarse = torch.randn(count, 1, x.shape[0] // 8, x.shape[1] // 8, generator=noise)
    return F.interpolate(coarse, size=x.shape, mode="bilinear", align_corners=False)


def _sky(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    return _tint((0.55, 0.75, 0.95), 0.18 * y + 0.08 * _clouds(x, count, noise))


def _grass(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    return _tint((0.33, 0.55, 0.22), 0.10 * _grain(x, count, noise) + 0.06 * _clouds(x, count, noise))


def _sand(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    return _tint((0.82, 0.70, 0.48), 0.05 * _grain(x, count, noise) + 0.05 * _clouds(x, count, noise))


def _night(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    stars = (_grain(x, count, noise) > 2.3).float()
    return _tint((0.10, 0.09, 0.22), 0.8 * stars + 0.03 * _clouds(x, count, noise))


def _brick(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    row = torch.floor((y + 1) * 4)
    mortar = (torch.remainder((y + 1) * 4, 1) < 0.16) | (torch.remainder((x + 1) * 2 + 0.5 * (row % 2), 1) < 0.09)
    return _tint((0.58, 0.30, 0.22), 0.35 * mortar.float() + 0.04 * _clouds(x, count, noise))


def _water(x: Tensor, y: Tensor, count: int, noise: torch.Generator) -> Tensor:
    phase = 2 * np.pi * torch.rand(count, 1, 1, 1, generator=noise)
    return _tint((0.15, 0.42, 0.60), 0.14 * torch.sin(14 * y + 2.5 * torch.sin(4 * x + phase) + phase))


_PAINTERS: dict[str, Callable[[Tensor, Tensor, int, torch.Generator], Tensor]] = {
    "sky": _sky,
    "grass": _grass,
    "sand": _sand,
    "night": _night,
    "brick": _brick,
    "water": _water,
}


def _tint(rgb: tuple[float, float, float], light: Tensor) -> Tensor:
    return torch.tensor(rgb)[:, None, None] + light
