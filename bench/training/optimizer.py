"""The optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.config import TrainSpec
from bench.models import factory


def clip_defaults(model: str) -> dict[str, float]:
    """beta2 and eps of Radford et al. 2021: those of their ResNets for a ResNet, else of their transformers."""
    return {"beta2": 0.999, "eps": 1e-8} if factory.is_resnet(model) else {"beta2": 0.98, "eps": 1e-6}


def adamw(modules: Sequence[torch.nn.Module], train: TrainSpec) -> torch.optim.AdamW:
    """AdamW with no weight decay on gains, biases and the logit scale, as in Radford et al. 2021."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), eps=train.eps, fused=True)
