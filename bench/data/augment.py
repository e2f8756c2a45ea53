"""Random views of image batches, each image by its own draw, on the batch's device."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, 3, h, w) -> float32 in [0, 1]."""
    return images.float().div_(255)


def random_crop(images: torch.Tensor, smallest: float, generator: torch.Generator) -> torch.Tensor:
    """Square crops of an area share in [smallest, 1] at random places, resized bilinearly back to the full side.

    images: float32 (n, 3, side, side); `generator` lives on the CPU. The light augmentation of CLIP's training.
    """
    if smallest >= 1:
        return images
    n = len(images)
    draws = torch.rand(n, 3, generator=generator)
    scale = (smallest + (1 - smallest) * draws[:, 0]).sqrt()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = (2 * draws[:, 1:] - 1) * (1 - scale)[:, None]
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
