"""Objects of COCO's annotations: classes that images show, and a downstream task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Pairs, Task, Vocabulary
from bench.data.class_names import class_places, plain
from bench.data.files import Selection
from bench.data.labelled_pairs import TASK_TRAIN_IMAGES
from bench.data.vocabularies import imagenet

Id = int | str


def shown_classes(objects: Mapping[Id, tuple[str, ...]], vocabulary: Vocabulary) -> dict[Id, list[int]]:
    """The classes that the categories of each image name, in their order."""
    place = class_places(vocabulary)
    return {image: [place[plain(name)] for name in names if plain(name) in place] for image, names in objects.items()}


def objects_task(
    ids: Mapping[str, Sequence[Id]],
    pairs: Mapping[str, Pairs],
    train: Mapping[Id, tuple[str, ...]],
    val: Mapping[Id, tuple[str, ...]],
    own: Vocabulary | None,
) -> Task | None:
    """The task `objects` over a list of classes or all categories; None where train and test share fewer than two."""
    train_of, val_of = (_largest(objects, own) for objects in (train, val))
    learnt = [row for row, image in enumerate(ids["train"]) if image in train_of]
    if len(learnt) > TASK_TRAIN_IMAGES:
        learnt = sorted(np.random.default_rng(0).permutation(learnt)[:TASK_TRAIN_IMAGES].tolist())
    tested = [row for row, image in enumerate(ids["test"]) if image in val_of]
    train_names = [train_of[ids["train"][row]] for row in learnt]
    test_names = [val_of[ids["test"][row]] for row in tested]
    shared = sorted(set(train_names) & set(test_names))
    if len(shared) < 2:
        return None
    vocabulary = own or Vocabulary(tuple(shared), imagenet().templates)
    train_images, train_labels, _ = _labelled(pairs["train"], learnt, train_names, vocabulary.names)
    test_images, test_labels, uids = _labelled(pairs["test"], tested, test_names, vocabulary.names)
    return Task("objects", vocabulary, train_images, train_labels, test_images, test_labels, test_uids=uids)


def _largest(objects: Mapping[Id, tuple[str, ...]], own: Vocabulary | None) -> dict[Id, str]:
    """The largest object's category by image, or of those that a list of classes has the class."""
    if own is None:
        return {image: names[0] for image, names in objects.items()}
    return {image: own.names[found[0]] for image, found in shown_classes(objects, own).items() if found}


def _labelled(
    pairs: Pairs, rows: Sequence[int], labels: Sequence[str], names: Sequence[str]
) -> tuple[Selection, NDArray[np.int64], list[str]]:
    """The rows whose label is among the names: images, labels and uids."""
    index = {name: position for position, name in enumerate(names)}
    kept = [(row, index[label]) for row, label in zip(rows, labels, strict=True) if label in index]
    chosen = [row for row, _ in kept]
    numbers = np.array([label for _, label in kept], dtype=np.int64)
    return Selection(pairs.images, chosen), numbers, [pairs.uids[row] for row in chosen]
