"""Projection heads."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(*widths: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with batch normalisation and ReLU in between; `last_norm` also normalises the output."""
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.BatchNorm1d(following), nn.ReLU()]
    return nn.Sequential(*layers[: -1 if last_norm else -2])
