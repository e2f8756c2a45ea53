"""Random augmentation of image batches, drawn independently for each image, on the batch's device.

Images are float32 (n, 3, side, side) in [0, 1]. Generators live on the CPU, so that draws do not depend on the device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_LUMA = torch.tensor([0.299, 0.587, 0.114])
# RGB -> YIQ; a change of hue is a rotation in its chroma plane.
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_SIGMA = (0.1, 2.0)
_BLUR_MULTIPLE = 16  # the number of blurred images is rounded up to it, since each new convolution size compiles a kernel

BatchSlice = tuple[int, slice]
"""The size of a whole batch and the rows of it at hand: each row is augmented as it would be within the whole batch."""


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, 3, h, w) -> float32 in [0, 1]."""
    return images.float().div_(255)


def pin(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The values in pinned memory for a GPU, unchanged for any other device, and where they already lie on a GPU."""
    return values.pin_memory() if device.type == "cuda" and values.device.type == "cpu" else values


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to the device, asynchronously on a GPU."""
    return pin(values, device).to(device, non_blocking=True)


def random_crop(
    images: torch.Tensor, smallest: float, generator: torch.Generator, flip: bool = False, part: BatchSlice | None = None
) -> torch.Tensor:
    """Random square crops, resized bilinearly back to the full side. Without `flip` this is the light augmentation of CLIP.

    Parameters
    ----------
    images : float32 (n, 3, side, side)
        Values in [0, 1].
    smallest : float
        The smallest area of a crop, as a share of the image; 1 crops nothing.
    generator : torch.Generator
        On the CPU.
    flip : bool
        Mirror each crop horizontally with probability 1/2.
    part : BatchSlice, optional
        The slice of a larger batch that `images` is; by default they are a whole batch.

    Returns
    -------
    float32 (n, 3, side, side)
    """
    if smallest >= 1 and not flip:
        return images
    n = len(images)
    draws = _uniform(generator, part or (n, slice(n)), 4)
    scale = (smallest + (1 - smallest) * draws[:, 0]).sqrt()
    mirror = torch.where((draws[:, 3] < 0.5) & flip, -1.0, 1.0)
    factors = torch.stack([scale * mirror, scale], dim=1)
    centres = (2 * draws[:, 1:3] - 1) * (1 - scale)[:, None]
    grid = _grid(to_device(factors, images.device), to_device(centres, images.device), images.shape[2])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _grid(factors: torch.Tensor, centres: torch.Tensor, side: int) -> torch.Tensor:
    """Sampling coordinates (x, y) in [-1, 1], float32 (n, side, side, 2), of scales and centres, float32 (n, 2) each.

    The same as `affine_grid`, without its matrix product: x is equal in all rows, y in all columns.
    """
    pixels = torch.linspace(-1, 1, side, device=factors.device) * (side - 1) / side
    lines = pixels[None, :, None] * factors[:, None] + centres[:, None]
    grid = lines.new_empty(len(lines), side, side, 2)
    grid[..., 0] = lines[:, None, :, 0]
    grid[..., 1] = lines[:, :, None, 1]
    return grid


def simclr(
    images: torch.Tensor, smallest: float, colour: float, generator: torch.Generator, part: BatchSlice | None = None
) -> torch.Tensor:
    """The SimCLR pipeline (Chen et al. 2020): crop, flip, colour jitter (p 0.8), grayscale (p 0.2), blur (p 0.5).

    Constants as reconstructed: jitter strengths are SimCLR's at s=0.5 (0.4, 0.4, 0.4, 0.1); the blur's sigma is SimCLR's at a
    side of 224, scaled with the side. Deviations, for speed: the jitter is always applied in the order brightness, contrast,
    saturation, hue; hue is rotated in YIQ; crops are square; values are clipped once, at the end.

    Parameters
    ----------
    images, generator, part
        As in `random_crop`.
    smallest : float
        The smallest area of a crop, as a share of the image.
    colour : float
        In [0, 1]; scales the jitter strengths and the probability of grayscale.

    Returns
    -------
    float32 (n, 3, side, side)
        Values in [0, 1].
    """
    n = len(images)
    part = part or (n, slice(n))
    cropped = random_crop(images, smallest, generator, flip=True, part=part)
    draws = _uniform(generator, part, 7)
    jittered = (draws[:, 0] < 0.8).float()
    brightness, contrast, saturation = (1 + colour * jittered[:, None] * 0.4 * (2 * draws[:, 1:4] - 1)).unbind(dim=1)
    hue = colour * jittered * 0.1 * (2 * draws[:, 4] - 1)
    saturation = torch.where(draws[:, 5] < 0.2 * colour, torch.zeros(n), saturation)
    coloured = colour_jitter(cropped, brightness, contrast, saturation, hue)
    low, high = _SIGMA
    sigma = torch.where(draws[:, 6] < 0.5, low + (high - low) * _uniform(generator, part), torch.zeros(n))
    return blur(coloured, sigma * images.shape[2] / 224).clamp_(0, 1)


def _uniform(generator: torch.Generator, part: BatchSlice, *columns: int) -> torch.Tensor:
    """Uniform draws in [0, 1) for the rows of `part`, cut out of those for the whole batch: float32 (rows, *columns)."""
    total, rows = part
    return torch.rand(total, *columns, generator=generator)[rows]


def colour_jitter(
    images: torch.Tensor, brightness: torch.Tensor, contrast: torch.Tensor, saturation: torch.Tensor, hue: torch.Tensor
) -> torch.Tensor:
    """Adjust brightness, contrast, saturation and hue, without clipping.

    All four are linear in the pixels of an image, so together they are one 3 x 3 matrix and one offset.

    Parameters
    ----------
    images : float32 (n, 3, side, side)
        Values in [0, 1].
    brightness, contrast, saturation : float32 (n,)
        Factors; 1 changes nothing.
    hue : float32 (n,)
        Rotation in full turns; 0 changes nothing.

    Returns
    -------
    float32 (n, 3, side, side)
    """
    n, device = len(images), images.device
    angle = 2 * math.pi * hue
    turn = torch.zeros(n, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = torch.cos(angle)
    turn[:, 1, 2] = -torch.sin(angle)
    turn[:, 2, 1] = torch.sin(angle)
    gray = _LUMA.expand(3, 3)
    colours = torch.eye(3) * saturation[:, None, None] + gray * (1 - saturation)[:, None, None]
    chroma = to_device(torch.linalg.inv(_YIQ) @ turn @ _YIQ @ colours, device)
    bright = images * to_device(brightness, device)[:, None, None, None]
    mean = (bright.mean(dim=(2, 3)) * to_device(_LUMA, device)).sum(dim=1)[:, None, None, None]
    factor = to_device(contrast, device)[:, None, None, None]
    contrasted = bright.mul_(factor).add_((1 - factor) * mean)
    return torch.matmul(chroma, contrasted.flatten(2)).view(images.shape)


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur by a kernel of a tenth of the side (odd, at least 3). sigma: float32 (n,) in pixels; 0 is no blur."""
    needed = -(-int(sigma.count_nonzero()) // _BLUR_MULTIPLE) * _BLUR_MULTIPLE
    if not needed:
        return images.clone()
    blurred = sigma.argsort(descending=True)[:needed]
    chosen = to_device(blurred, images.device)
    n, (channels, side) = len(blurred), images.shape[1:3]
    radius = max(1, round(side / 10) // 2)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma[blurred].clamp(min=1e-3)[:, None]) ** 2)
    weights = to_device(weights / weights.sum(dim=1, keepdim=True), images.device)
    kernels = weights.repeat_interleave(channels, dim=0)[:, None]
    padded = F.pad(images[chosen], (radius,) * 4, mode="reflect").reshape(1, n * channels, side + 2 * radius, side + 2 * radius)
    down = F.conv2d(padded, kernels[:, :, :, None], groups=n * channels)
    across = F.conv2d(down, kernels[:, :, None, :], groups=n * channels)
    return images.index_copy(0, chosen, across.view(n, channels, side, side))
