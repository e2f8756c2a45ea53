"""Losses as pure functions of unit-length embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def clip_loss(images: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Symmetric contrastive loss of n pairs (Radford et al. 2021; Eq. 1 of Yang et al. 2024), a scalar.

    images, texts: float (n, d), unit rows, pair i in row i of both; logit_scale: 1/temperature, a scalar.
    """
    logits = logit_scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
