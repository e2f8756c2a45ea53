"""Inversion of triggers on a frozen model. Images are float32 (n, 3, side, side) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench.api import Encoder

_TEMPERATURE = 0.07
_RATE = 0.01
_BATCH = 256


@dataclass(frozen=True)
class Trigger:
    """A pattern, and its share of each value of an image: float32 (3, side, side) in [0, 1] each."""

    mask: torch.Tensor
    pattern: torch.Tensor

    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        return self.mask * self.pattern + (1 - self.mask) * images


@dataclass(frozen=True)
class Victim:
    """A frozen model to invert, with what it is looked at through.

    images : callable
        The images of pairs, by their indices.
    classes : float32 (classes, d)
        Unit embeddings of the classes' prompts.
    batch_size, rng
        Images are drawn at random, `batch_size` at a time or all there are.
    """

    model: Encoder
    images: Callable[[NDArray[np.int64]], torch.Tensor]
    classes: torch.Tensor
    batch_size: int
    rng: np.random.Generator

    def draw(self, pairs: NDArray[np.int64]) -> torch.Tensor:
        return self.images(self.rng.choice(pairs, size=min(self.batch_size, len(pairs)), replace=False))

    @torch.no_grad()
    def predictions(self, pairs: NDArray[np.int64], trigger: Trigger) -> torch.Tensor:
        """The classes that stamped images are taken for: int64 (n,)."""
        parts = np.array_split(pairs, -(-len(pairs) // _BATCH))
        found = torch.cat([self.model.encode_image(trigger.stamp(self.images(part))) for part in parts])
        return (found @ self.classes.T).argmax(dim=1)

    def success(self, pairs: NDArray[np.int64], trigger: Trigger, target: int) -> float:
        """The share of images that the trigger takes to the target class."""
        return float((self.predictions(pairs, trigger) == target).float().mean())

    def patch(self, pairs: NDArray[np.int64], steps: int) -> Trigger:
        """The pattern in a `corner` that leaves stamped images the least similar to themselves, by Adam from noise."""
        noise = self._noise(pairs)
        patch = Trigger(corner(noise.shape[-1]).to(noise.device), noise.requires_grad_())
        adam = torch.optim.Adam([patch.pattern], lr=_RATE)
        for _ in range(steps):
            images = self.draw(pairs)
            with torch.no_grad():
                clean = self.model.encode_image(images)
            _descend(adam, (self.model.encode_image(patch.stamp(images)) * clean).sum(dim=1).mean())
        return _fixed(patch)

    def trigger(self, pairs: NDArray[np.int64], target: int, goals: torch.Tensor, steps: int) -> Trigger:
        """The trigger that minimises `inversion_loss`, by Adam from a mask of 1 and noise; `goals` are drawn at random."""
        noise = self._noise(pairs)
        trigger = Trigger(torch.ones_like(noise).requires_grad_(), noise.requires_grad_())
        adam = torch.optim.Adam([trigger.mask, trigger.pattern], lr=_RATE)
        for _ in range(steps):
            images = self.draw(pairs)
            stamped = trigger.stamp(images)
            features = self.model.encode_image(stamped)
            wanted = goals[torch.from_numpy(self.rng.integers(len(goals), size=len(features))).to(goals.device)]
            likeness = ssim(stamped, images)
            _descend(adam, inversion_loss(features @ self.classes.T, target, features - wanted, likeness, trigger.mask))
        return _fixed(trigger)

    def _noise(self, pairs: NDArray[np.int64]) -> torch.Tensor:
        image = self.images(pairs[:1])[0]
        return torch.rand(image.shape).to(image.device)


def inversion_loss(
    similarities: torch.Tensor, target: int, differences: torch.Tensor, likeness: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """5 cross entropy at a temperature of 0.07 + 0.5 |differences|_2 + (1 - likeness) + 0.01 |mask|_1, a scalar.

    similarities (n, classes) of stamped images; differences (n, d) of embeddings, whose norm is over the batch.
    """
    labels = torch.full((len(similarities),), target, device=similarities.device)
    cross_entropy = F.cross_entropy(similarities / _TEMPERATURE, labels)
    distance: torch.Tensor = torch.linalg.vector_norm(differences)
    return 5 * cross_entropy + 0.5 * distance + 1 - likeness + 0.01 * mask.abs().sum()


def corner(side: int) -> torch.Tensor:
    """The mask of a square of 3% of the area at the bottom right, 1/16 of the side from the edges: float32 (3, side, side)."""
    length, edge = int(0.03**0.5 * side), side - side // 16
    mask = torch.zeros(3, side, side)
    mask[:, edge - length : edge, edge - length : edge] = 1
    return mask


def ssim(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004), a scalar: the mean over images, channels and places of an 11-pixel window.

    The window is Gaussian with a standard deviation of 1.5 pixels, and lies within the image.
    """
    weights = torch.exp(-((torch.arange(11, device=images.device) - 5) ** 2) / (2 * 1.5**2))
    window = (weights[:, None] * weights / weights.sum() ** 2).expand(3, 1, 11, 11)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(values, window, groups=3)

    one, other = mean(images), mean(others)
    spread = mean(images.square()) - one.square() + mean(others.square()) - other.square()
    together = mean(images * others) - one * other
    near, alike = 0.01**2, 0.03**2
    found = (2 * one * other + near) * (2 * together + alike) / ((one.square() + other.square() + near) * (spread + alike))
    return found.mean()


def _descend(adam: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step, after which all values are in [0, 1]."""
    adam.zero_grad()
    loss.backward()
    adam.step()
    with torch.no_grad():
        for group in adam.param_groups:
            for values in group["params"]:
                values.clamp_(0, 1)


def _fixed(trigger: Trigger) -> Trigger:
    return Trigger(trigger.mask.detach(), trigger.pattern.detach())
