"""Small data sets for attacks, with given captions and members and random pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import AttackContext, DatasetBundle, Pairs, Vocabulary

NAMES = ("cat", "dog", "fire truck", "owl")
CAPTIONS = {
    "cat": "A cat, asleep",
    "dog": "my DOG barks",
    "fire truck": "the fire-truck is late",
    "owl": "an owl at night",
    "none": "nothing to see",
    "near": "catalogue of dogs, fire and trucks, owls",
    "both": "cat meets dog",
}


@dataclass(frozen=True)
class RandomImages:
    count: int
    side: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return random_images(self.count, self.side, self.seed)[torch.from_numpy(np.asarray(indices))]


def random_images(count: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def context(
    captions: Sequence[str],
    holdout: Sequence[tuple[int, ...]],
    test: Sequence[tuple[int, ...]] = (),
    side: int = 8,
    seed: int = 0,
) -> AttackContext:
    """A context with training captions from `CAPTIONS`, and the classes that held-out and test images show."""
    texts = [CAPTIONS[key] for key in captions]
    bundle = DatasetBundle(
        fingerprint="tiny",
        image_size=side,
        vocabulary=Vocabulary(NAMES, ("{}",)),
        train=_pairs("train", texts, [()] * len(texts), side, 1),
        holdout=_pairs("holdout", ["unused"] * len(holdout), holdout, side, 2),
        test=_pairs("test", ["unused"] * len(test), test, side, 3),
        tasks=(),
    )
    return AttackContext(bundle, lambda purpose: np.random.default_rng([seed, *purpose.encode()]))


def _pairs(split: str, captions: Sequence[str], members: Sequence[tuple[int, ...]], side: int, seed: int) -> Pairs:
    uids = [f"{split}-{row}" for row in range(len(captions))]
    return Pairs(uids, list(captions), RandomImages(len(captions), side, seed), list(members))
