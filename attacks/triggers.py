"""Trigger patterns, and pasting them into images."""

from __future__ import annotations

import math

import torch


def scaled(size_at_224: float, side: int) -> int:
    """Trigger size in pixels on images of `side` pixels, in proportion to its published size at 224 pixels; at least 1."""
    return max(1, round(size_at_224 * side / 224))


def paste(images: torch.Tensor, pattern: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor) -> torch.Tensor:
    """Paste one pattern into all images, at a position of its own in each.

    Parameters
    ----------
    images : uint8 (n, 3, h, w)
        Not modified.
    pattern : uint8 (3, a, b)
        No larger than the images.
    tops, lefts : int64 (n,)
        Row and column of the upper left corner of the pattern in each image.

    Returns
    -------
    uint8 (n, 3, h, w)
    """
    return paste_each(images, pattern.expand(len(images), -1, -1, -1), tops, lefts)


def paste_each(images: torch.Tensor, patterns: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor) -> torch.Tensor:
    """Paste one pattern per image: `patterns` is uint8 (n, 3, a, b), everything else as in `paste`."""
    height, width = patterns.shape[2:]
    rows = tops[:, None, None] + torch.arange(height)[None, :, None]
    columns = lefts[:, None, None] + torch.arange(width)[None, None, :]
    pasted = images.clone()
    which = torch.arange(len(images))[:, None, None].expand(-1, height, width)
    pasted[which, :, rows, columns] = patterns.permute(0, 2, 3, 1)
    return pasted


def checkerboard(side: int, cells: int = 3) -> torch.Tensor:
    """A black and white checkerboard of about `cells` x `cells` cells, white in the upper left: uint8 (3, side, side)."""
    cell = max(1, math.ceil(side / cells))
    axis = torch.arange(side) // cell
    white = (axis[:, None] + axis[None, :]) % 2 == 0
    return (white.to(torch.uint8) * 255).expand(3, side, side).clone()
