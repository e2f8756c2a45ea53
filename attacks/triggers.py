"""Trigger patterns and how they are put on pixels."""

from __future__ import annotations

import math

import torch


def scaled(size_at_224: float, side: int) -> int:
    """A trigger's size in pixels for images of `side`: proportional to its published size at 224, rounded, at least 1."""
    return max(1, round(size_at_224 * side / 224))


def paste(images: torch.Tensor, pattern: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor) -> torch.Tensor:
    """Images uint8 (n, 3, h, w) with `pattern` uint8 (3, a, b) at each image's own place, int64 (n,)."""
    return paste_each(images, pattern.expand(len(images), -1, -1, -1), tops, lefts)


def paste_each(images: torch.Tensor, patterns: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor) -> torch.Tensor:
    """Images uint8 (n, 3, h, w), each with its own of `patterns` uint8 (n, 3, a, b) at its own place, int64 (n,)."""
    height, width = patterns.shape[2:]
    rows = tops[:, None, None] + torch.arange(height)[None, :, None]
    columns = lefts[:, None, None] + torch.arange(width)[None, None, :]
    pasted = images.clone()
    which = torch.arange(len(images))[:, None, None].expand(-1, height, width)
    pasted[which, :, rows, columns] = patterns.permute(0, 2, 3, 1)
    return pasted


def checkerboard(side: int, cells: int = 3) -> torch.Tensor:
    """A black and white board of about `cells` x `cells`, white in the upper left corner: uint8 (3, side, side)."""
    cell = max(1, math.ceil(side / cells))
    axis = torch.arange(side) // cell
    white = (axis[:, None] + axis[None, :]) % 2 == 0
    return (white.to(torch.uint8) * 255).expand(3, side, side).clone()
