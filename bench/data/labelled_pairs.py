"""Labelled, captioned images as a bundle: pairs, and a classification task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.api.data import DatasetBundle, Images, Pairs, Task, Vocabulary
from bench.data.files import Selection

TASK_TRAIN_IMAGES = 20_000


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one split, each with a label, a uid and a caption. labels: int64 (n,)."""

    images: Images
    labels: NDArray[np.int64]
    uids: Sequence[str]
    captions: Sequence[str]

    @property
    def pairs(self) -> Pairs:
        return Pairs(self.uids, self.captions, self.images, [(label,) for label in self.labels.tolist()])


def labelled_bundle(
    fingerprint: str,
    image_size: int,
    vocabulary: Vocabulary,
    parts: Mapping[str, Part],
    facts: Mapping[str, str | int] | None = None,
) -> DatasetBundle:
    """A bundle of the splits train, holdout and test. Its task `classes` has at most 20,000 training images."""
    train, test = parts["train"], parts["test"]
    chosen = np.sort(np.random.default_rng(0).permutation(len(train.labels))[:TASK_TRAIN_IMAGES])
    probe = Selection(train.images, chosen)
    return DatasetBundle(
        fingerprint,
        image_size,
        vocabulary,
        train.pairs,
        parts["holdout"].pairs,
        test.pairs,
        tasks=(Task("classes", vocabulary, probe, train.labels[chosen], test.images, test.labels, test_uids=test.uids),),
        facts=dict(facts or {}),
    )
