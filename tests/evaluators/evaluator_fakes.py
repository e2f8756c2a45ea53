"""Models whose embeddings are given, and worlds around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench.api import DatasetBundle, FrozenModel, Images, Pairs, Predictions, Probe, Query, Task, Vocabulary

NAMES = ("cat", "dog", "owl")


@dataclass(frozen=True)
class Points:
    """Images that stand for feature vectors (n, d)."""

    features: torch.Tensor

    def __len__(self) -> int:
        return len(self.features)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        raise AssertionError("an evaluator looked at pixels")


@dataclass(frozen=True)
class PointModel:
    """Gives images their vectors turned by `shift` places; class k of a vocabulary is the k-th unit vector."""

    shift: int = 0

    def image_features(self, images: Images) -> torch.Tensor:
        return F.normalize(cast(Points, images).features.roll(self.shift, dims=1), dim=-1)

    def classifier(self, vocabulary: Vocabulary) -> torch.Tensor:
        return torch.eye(len(vocabulary.names))


@dataclass
class FakeContext:
    bundle: DatasetBundle
    model: FrozenModel = field(default_factory=PointModel)
    seed: int = 0
    probes: Sequence[Probe] = ()
    queries: Sequence[Query] = ()
    poisons: int = 0
    pictures: Points | None = None
    clean: PointModel | None = None
    kept: list[Predictions] = field(default_factory=list)

    def keep(self, predictions: Predictions) -> None:
        self.kept.append(predictions)

    def probe_images(self) -> Images:
        assert self.pictures is not None
        return self.pictures

    def clean_model(self) -> FrozenModel:
        assert self.clean is not None
        return self.clean


def points(classes: Sequence[int], count: int = 3, noise: float = 0.0, seed: int = 0) -> Points:
    """Vectors near the unit vector of each class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(count)[list(classes)]
    return Points(centres + noise * torch.randn(centres.shape, generator=generator))


def task(name: str, train: Sequence[int], test: Sequence[int], images: tuple[Points, Points], names: tuple[str, ...]) -> Task:
    return Task(
        name=name,
        vocabulary=Vocabulary(names, ("{}",)),
        train_images=images[0],
        train_labels=np.array(train, dtype=np.int64),
        test_images=images[1],
        test_labels=np.array(test, dtype=np.int64),
    )


def bundle(
    holdout: Sequence[tuple[int, ...]] = (), test: Sequence[tuple[int, ...]] = (), tasks: tuple[Task, ...] = ()
) -> DatasetBundle:
    return DatasetBundle(
        fingerprint="points",
        image_size=1,
        vocabulary=Vocabulary(NAMES, ("{}",)),
        train=_pairs([]),
        holdout=_pairs(holdout),
        test=_pairs(test),
        tasks=tasks,
    )


def _pairs(members: Sequence[tuple[int, ...]]) -> Pairs:
    names = [str(row) for row in range(len(members))]
    return Pairs(names, names, Points(torch.zeros(len(members), 3)), list(members))
