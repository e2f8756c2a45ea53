"""Loss functions of unit-length embeddings, float (n, d) with pair i in row i; each returns a scalar."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def contrast(anchors: torch.Tensor, others: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """InfoNCE: the mean over i of -log( exp(s <a_i, o_i>) / sum_k exp(s <a_i, o_k>) ), s = `logit_scale` = 1/temperature."""
    logits = logit_scale * anchors @ others.T
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def clip_loss(images: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric contrastive loss, the mean of both directions (Radford et al. 2021; Eq. 1 of Yang et al. 2024).

    For two views of one modality this is symmetric InfoNCE, with gradient through both views.
    """
    return (contrast(images, texts, logit_scale) + contrast(texts, images, logit_scale)) / 2


def nn_contrastive_loss(neighbours: torch.Tensor, second_view: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour contrastive loss (Eq. 2 of Yang et al. 2024, after NNCLR, Dwibedi et al. 2021).

    `neighbours` are the pool's embeddings nearest to the first view of each example; no gradient flows through them.
    """
    return contrast(neighbours.detach(), second_view, logit_scale)


def in_modal_loss(
    images: torch.Tensor,
    augmented_images: torch.Tensor,
    texts: torch.Tensor,
    augmented_texts: torch.Tensor,
    logit_scale: torch.Tensor,
) -> torch.Tensor:
    """CleanCLIP's in-modal loss (Bansal et al. 2023): InfoNCE of examples and their augmentations, averaged over modalities."""
    return (contrast(images, augmented_images, logit_scale) + contrast(texts, augmented_texts, logit_scale)) / 2


def nt_xent(one: torch.Tensor, other: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """SimCLR's loss (Chen et al. 2020, Eq. 1): each view against the other view of its example and all other rows of both."""
    own = torch.eye(len(one), device=one.device) * -1e9
    targets = torch.arange(len(one), device=one.device)
    across = logit_scale * one @ other.T
    sides = (
        torch.cat([across, logit_scale * one @ one.T + own], dim=1),
        torch.cat([across.T, logit_scale * other @ other.T + own], dim=1),
    )
    return (F.cross_entropy(sides[0], targets) + F.cross_entropy(sides[1], targets)) / 2


def pair_losses(images: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """`clip_loss` of each pair: (n,)."""
    logits = logit_scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")) / 2
