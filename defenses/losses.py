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
