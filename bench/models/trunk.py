"""Features of the image tower of an open_clip model before its projection into the joint space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def features(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The features before the projection: (n, width). For a ResNet, the spatial mean of its last stage."""
    if hasattr(visual, "trunk"):  # timm's
        return _pooled(visual.trunk(pixels))
    if hasattr(visual, "attnpool"):
        with replaced(visual, "attnpool", nn.Identity()):
            return _pooled(visual(pixels))
    if getattr(visual, "proj", None) is not None:
        with replaced(visual, "proj", None):
            return _pooled(visual(pixels))
    return _pooled(visual(pixels))


def _pooled(output: torch.Tensor) -> torch.Tensor:
    """The mean of feature maps (n, c, h, w) over positions, or of tokens (n, tokens, c); features (n, c) unchanged."""
    return output.mean(dim=(2, 3)) if output.dim() == 4 else output.mean(dim=1) if output.dim() == 3 else output


@contextmanager
def replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
