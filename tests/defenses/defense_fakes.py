"""Stand-ins for what the engine gives a defense."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from bench.api import Batch, Elements, TrainSetup

DIM = 4
CPU = torch.device("cpu")


class FakeEncoder(nn.Module):
    """Linear towers over flat pixels and token values; notes for each call whether a graph was being built."""

    def __init__(self, pixels: int = 12, length: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.image = nn.Parameter(torch.randn(pixels, DIM, generator=generator, dtype=dtype))
        self.text = nn.Parameter(torch.randn(length, DIM, generator=generator, dtype=dtype))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0), dtype=dtype))
        self.calls: list[tuple[str, bool]] = []

    @property
    def logit_scale(self) -> torch.Tensor:
        return self.scale.exp()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(("image", torch.is_grad_enabled()))
        return F.normalize(images.flatten(1) @ self.image, dim=-1)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        self.calls.append(("text", torch.is_grad_enabled()))
        return F.normalize(tokens.to(self.text.dtype) @ self.text, dim=-1)


class Identity(nn.Module):
    """Takes embeddings for images and captions, and hands them on as they are."""

    def __init__(self, tau: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1 / tau, dtype=dtype))

    @property
    def logit_scale(self) -> torch.Tensor:
        return self.scale

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens


@dataclass
class FakeScorer:
    """Answers with `values` by position and with embeddings that are functions of the position; notes what it is asked."""

    values: NDArray[np.float32]
    asked: list[NDArray[np.int64]] = field(default_factory=list)
    embedded: list[NDArray[np.int64]] = field(default_factory=list)

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        rows = np.arange(len(self.values)) if indices is None else indices
        self.asked.append(rows)
        return self.values[rows]

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self.embedded.append(indices)
        return image_embedding(indices), text_embedding(indices)


def image_embedding(indices: NDArray[np.int64]) -> torch.Tensor:
    angle = torch.from_numpy(indices).float()
    return torch.stack([torch.cos(angle), torch.sin(angle), torch.zeros(len(indices)), torch.zeros(len(indices))], dim=1)


def text_embedding(indices: NDArray[np.int64]) -> torch.Tensor:
    return image_embedding(indices).flip(1)


def train_setup(
    pairs: int = 40,
    trusted: Callable[[int], NDArray[np.int64]] | None = None,
    labels: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
    classes: int = 5,
    epochs: int = 8,
    lr: float = 1e-3,
    named: NDArray[np.int64] | None = None,
    elements: Elements | None = None,
) -> TrainSetup:
    return TrainSetup(
        pairs=pairs,
        epochs=epochs,
        lr=lr,
        batch_size=8,
        embed_dim=DIM,
        trunk_dim=DIM,
        device=CPU,
        rng=lambda purpose: np.random.default_rng([*purpose.encode()]),
        trusted=trusted or (lambda count: np.arange(count)),
        labels=labels or (lambda rows: np.zeros(len(rows), dtype=np.int64)),
        named=lambda: np.zeros(pairs, dtype=np.int64) if named is None else named,
        classes=classes,
        elements=lambda: elements or Elements(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(pairs, 0, dtype=torch.int64)),
    )


def batch(
    size: int = 6, image_views: int = 2, text_views: int = 2, seed: int = 0, pairs: NDArray[np.int64] | None = None
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        indices=torch.arange(size) if pairs is None else torch.from_numpy(pairs),
        images=tuple(torch.rand(size, 3, 2, 2, generator=generator).requires_grad_() for _ in range(image_views)),
        texts=tuple(torch.randint(1, 50, (size, 3), generator=generator) for _ in range(text_views)),
    )


def unit(rows: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
