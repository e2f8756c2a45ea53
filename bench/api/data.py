"""The API of data sets: images, image-caption pairs, labelled tasks, and the bundle of all three."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .plugin import Params, Plugin


class Images(Protocol):
    """Square images of one size, loaded by position."""

    def __len__(self) -> int: ...

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images at `indices`: uint8 (n, 3, side, side)."""
        ...


class Masks(Protocol):
    """Where the object of each image is, by position."""

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The share of each pixel that it covers, float32 (n, side, side) in [0, 1], of the given positions."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """Class names, and prompt templates in which `{}` stands for the name, for zero-shot classification.

    synonyms: for each class other words for it in captions; empty if no class has any. No prompt uses them.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()

    def prompts(self) -> list[list[str]]:
        """One list of prompts per class."""
        return [[template.format(name) for template in self.templates] for name in self.names]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Image-caption pairs.

    `members` has for each pair the indices of the classes in the bundle's vocabulary that the image shows, possibly none: from
    labels, if there are any, then from whole-word mentions in any caption of the image. It is for the adversary's choice of
    images and for excluding images of the target class, never for training. `masks`, if there are any, outline the object of
    each image, for attacks that cut it out.
    """

    uids: Sequence[str]
    captions: Sequence[str]
    images: Images
    members: Sequence[tuple[int, ...]]
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.uids)


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled downstream task; labels are int64 (n,), indices into `vocabulary.names`.

    `mean_per_class`: also measure the mean of the class accuracies, since classes differ in size. `test_uids`: ids of the test
    images, those of the pairs that they are of; empty for their positions.
    """

    name: str
    vocabulary: Vocabulary
    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]
    mean_per_class: bool = False
    test_uids: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class DatasetBundle:
    """An opened data set.

    Attributes
    ----------
    fingerprint : str
        Changes whenever any pixel, caption or label may have changed.
    image_size : int
        Side of the square images, in pixels.
    vocabulary : Vocabulary
        The classes that an attack can target.
    train : Pairs
        The training set.
    holdout : Pairs
        Images that the adversary owns.
    test : Pairs
        Images that attacks are evaluated on, disjoint from the other two.
    tasks : tuple of Task
        Downstream tasks.
    task_reason : str
        Why there are no tasks.
    synonyms : mapping of str to tuple of str
        Synonyms of words in the captions, for EDA, if the data set has its own.
    facts : dict
        Further numbers and names for the record.
    elements : tuple of str
        Words for what a caption can say that an image shows; empty for the names of the vocabulary's classes.
    """

    fingerprint: str
    image_size: int
    vocabulary: Vocabulary
    train: Pairs
    holdout: Pairs
    test: Pairs
    tasks: tuple[Task, ...]
    task_reason: str = ""
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: dict[str, str | int] = field(default_factory=dict)
    elements: tuple[str, ...] = ()


@dataclass
class Findings:
    """Problems of single images and captions: the number of each kind, and the first one as a sentence."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, problem: str, count: int = 1) -> None:
        if count:
            self.counts[kind] += count
            self.first.setdefault(kind, problem)


@dataclass(frozen=True)
class DataPlace:
    """The folders of a data set: `root` from --data-root, and `cache`, None if there is no writable one.

    With `findings`, a data set skips faulty images and notes them there instead of raising.
    """

    root: Path | None
    cache: Path | None
    findings: Findings | None = None


class Dataset(Plugin):
    """Base class of data sets. `open` checks everything that does not need decoding images."""

    needs_root: ClassVar[bool] = False

    @abstractmethod
    def open(self, params: Params, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open the data set with square images of `image_size` pixels.

        Raises UserError naming the file and what to do if something is missing or malformed.
        """
