"""Activation checkpointing: what backward needs of a transformer's blocks is computed a second time and not kept."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def checkpoint_activations(model: Any) -> None:
    """Turn it on in the towers of an open_clip model whose numbers it does not change.

    A tower with batch normalisation stays as it is: the second pass would go into its running statistics too.
    """
    if not _has_batch_norm(model.visual):
        model.visual.set_grad_checkpointing(True)
    if hasattr(model, "text"):
        model.text.set_grad_checkpointing(True)
    else:
        model.transformer.grad_checkpointing = True


def _has_batch_norm(tower: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in tower.modules())
