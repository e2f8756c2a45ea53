"""The image tower of an open_clip model without its projection into the joint space."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def features(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What the projection is made of: (n, width). Of a residual network the mean over places of its last stage."""
    if hasattr(visual, "trunk"):  # timm's
        return _pooled(visual.trunk(pixels))
    if hasattr(visual, "attnpool"):
        with replaced(visual, "attnpool", nn.Identity()):
            return _pooled(visual(pixels))
    if getattr(visual, "proj", None) is not None:
        with replaced(visual, "proj", None):
            return visual(pixels)
    return visual(pixels)


def _pooled(found: torch.Tensor) -> torch.Tensor:
    """Rows as they are; of maps (n, width, height, width) and of tokens (n, tokens, width) the mean."""
    return found.mean(dim=(2, 3)) if found.dim() == 4 else found.mean(dim=1) if found.dim() == 3 else found


@contextmanager
def replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
