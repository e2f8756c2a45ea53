"""Labels of images: classes that they show, and a downstream task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Pairs, Task, Vocabulary
from bench.data.class_names import class_places, plain
from bench.data.columns import Column
from bench.data.files import Faults, Selection
from bench.data.labelled_pairs import TASK_TRAIN_IMAGES
from bench.data.vocabularies import imagenet
from bench.errors import UserError


@dataclass(frozen=True, eq=False)
class Labels:
    """names: the categories, in order; of: int64 (n,), the category of each row, -1 where it has none."""

    names: tuple[str, ...]
    of: NDArray[np.int64]

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Labels:
        """Each text is a label, an empty one is none; categories are sorted."""
        names = sorted({*texts} - {""})
        place = {"": -1} | {name: index for index, name in enumerate(names)}
        return cls(tuple(names), np.fromiter((place[text] for text in texts), dtype=np.int64, count=len(texts)))

    def of_images(
        self, image_of: NDArray[np.int64], rows: NDArray[np.int64], found: str, faults: Faults
    ) -> tuple[Labels, NDArray[np.int64]]:
        """Every row of an image with the image's label, and those of `rows` whose image has one label at most.

        image_of: int64 (n,), equal for rows of one image. An image of several labels is a fault.
        """
        known = rows[self.of[rows] >= 0]
        least, most = np.full(len(self.of), len(self.names)), np.full(len(self.of), -1)
        np.minimum.at(least, image_of[known], self.of[known])
        np.maximum.at(most, image_of[known], self.of[known])
        wrong = np.flatnonzero((most >= 0) & (least < most))
        if len(wrong):
            both = " and ".join(f"'{self.names[label[wrong[0]]]}'" for label in (least, most))
            problem = f"{found} {len(wrong)} images with several labels, the first with {both}; leave it one"
            faults.note("ambiguous", problem, len(wrong))
        return Labels(self.names, most[image_of]), rows[~np.isin(image_of[rows], wrong)]

    def as_classes(self, vocabulary: Vocabulary) -> NDArray[np.int64]:
        """The class of the vocabulary that each row's label names, -1 where it names none: int64 (n,).

        Labels that are whole numbers, and no names of classes, count the classes from 0. Raises UserError if they cannot.
        """
        spoken = class_places(vocabulary)
        places = [spoken.get(plain(name), -1) for name in self.names]
        if self.numbered and max(places, default=-1) < 0:
            last = max(map(int, self.names))
            if last >= len(vocabulary.names):
                raise UserError(f"the labels are numbers up to {last}, and data.classes names {len(vocabulary.names)} classes")
            places = [int(name) for name in self.names]
        return np.array([*places, -1], dtype=np.int64)[self.of]

    @property
    def numbered(self) -> bool:
        return bool(self.names) and all(name.isascii() and name.isdecimal() for name in self.names)


class LabelledMembers(Column[tuple[int, ...]]):
    """The class of each row's label, then those that are mentioned; classes: int64 (n,), -1 where there is none."""

    def __init__(self, classes: NDArray[np.int64], mentioned: Sequence[tuple[int, ...]]) -> None:
        self._classes = classes
        self._mentioned = mentioned

    def __len__(self) -> int:
        return len(self._classes)

    def _at(self, row: int) -> tuple[int, ...]:
        own = int(self._classes[row])
        mentioned = self._mentioned[row]
        return mentioned if own < 0 else (own, *(each for each in mentioned if each != own))


def class_task(
    labels: Labels,
    vocabulary: Vocabulary,
    parts: Mapping[str, tuple[Pairs, NDArray[np.int64]]],
    image_of: NDArray[np.int64],
) -> Task | str:
    """The task `classes`: images once each, at most 20,000 for training; or why there is none.

    It is over the vocabulary, and over the labels themselves where that is ImageNet's, which is nobody's choice of labels.
    parts: pairs by part, and the row of each, int64. Raises UserError if labels are numbers without names.
    """
    if vocabulary == imagenet():
        if labels.numbered:
            raise UserError("the labels are numbers: name them by a list, with --set data.classes=FILE")
        vocabulary = Vocabulary(labels.names, imagenet().templates)
    classes = labels.as_classes(vocabulary)
    found: dict[str, NDArray[np.int64]] = {}
    for part in ("train", "test"):
        _, rows = parts[part]
        once = np.sort(np.unique(image_of[rows], return_index=True)[1])
        once = once[classes[rows[once]] >= 0]
        if part == "train":
            once = np.sort(np.random.default_rng(0).permutation(once)[:TASK_TRAIN_IMAGES])
        found[part] = once
    (train, train_rows), (test, test_rows) = parts["train"], parts["test"]
    train_labels, test_labels = classes[train_rows[found["train"]]], classes[test_rows[found["test"]]]
    if len(np.unique(train_labels)) < 2 or not len(test_labels):
        return "labels of training images name fewer than two of the classes, or those of test images none"
    train_images, test_images = Selection(train.images, found["train"]), Selection(test.images, found["test"])
    uids = [test.uids[row] for row in found["test"]]
    return Task("classes", vocabulary, train_images, train_labels, test_images, test_labels, test_uids=uids)
