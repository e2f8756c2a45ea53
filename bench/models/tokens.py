"""What open_clip's towers know of the parts of an image and of the words of a caption, in the joint space.

Where a tower does not show its parts, the one part is the whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.models import texts
from bench.models.trunk import replaced


def of_images(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (n, d) and those of the places of a grid (n, places, d), not normalised.

    Each place goes through the projection alone: patches of a ViT, the last stage of a residual network, there through the
    values of the attention that pools it.
    """
    if hasattr(visual, "trunk") and not any(hasattr(visual.head, pool) for pool in ("pool", "mlp")):  # timm's
        maps = visual.trunk.forward_features(pixels)
        return visual.head(visual.trunk.forward_head(maps)), visual.head(_places(maps, visual.trunk))
    if hasattr(visual, "attnpool"):
        with replaced(visual, "attnpool", nn.Identity()):
            maps = visual(pixels)
        pool = visual.attnpool
        return pool(maps), pool.c_proj(pool.v_proj(maps.flatten(2).mT))
    if hasattr(visual, "output_tokens"):
        with replaced(visual, "output_tokens", True):
            whole, parts = visual(pixels)
        return whole, parts if visual.proj is None else parts @ visual.proj
    whole = visual(pixels)
    return whole, whole[:, None]


def of_texts(model: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (n, d) and those of the tokens (n, length, d), not normalised."""
    tower = model.text if hasattr(model, "text") else model
    if not hasattr(tower, "ln_final"):
        whole = texts.encode(model, tokens)
        return whole, whole[:, None]
    states: list[torch.Tensor] = []
    hook = tower.ln_final.register_forward_hook(lambda module, given, found: states.append(found))
    try:
        whole = texts.encode(model, tokens)
    finally:
        hook.remove()
    project = tower.text_projection
    return whole, project(states[0]) if isinstance(project, nn.Module) else states[0] @ project


def _places(maps: torch.Tensor, trunk: Any) -> torch.Tensor:
    """Of maps (n, width, y, x) all places, of tokens (n, tokens, width) those that stand for one: (n, places, width)."""
    return maps.flatten(2).mT if maps.dim() == 4 else maps[:, getattr(trunk, "num_prefix_tokens", 0) :]
