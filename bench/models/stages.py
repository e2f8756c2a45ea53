"""Outputs of the stages of an open_clip image tower, and its normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.models import trunk


def outputs(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Embeddings (n, d), not normalised, and the output (n, ...) of each stage.

    Stages of a residual network, blocks of a ViT; elsewhere the one stage is all that comes before the projection.
    """
    stages = _stages(visual)
    if not stages:
        return visual(pixels), [trunk.features(visual, pixels)]
    found: list[torch.Tensor] = []
    hooks = [stage.register_forward_hook(lambda module, given, output: found.append(output)) for stage in stages]
    try:
        embeddings = visual(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return embeddings, found


def eval_norm(model: nn.Module) -> None:
    """Put batch normalisation into evaluation mode."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _stages(visual: Any) -> list[nn.Module]:
    tower = getattr(visual, "trunk", visual)
    if hasattr(tower, "layer1"):
        return [tower.layer1, tower.layer2, tower.layer3, tower.layer4]
    if hasattr(tower, "transformer"):
        return list(tower.transformer.resblocks)
    return list(getattr(tower, "stages", None) or getattr(tower, "blocks", None) or ())
