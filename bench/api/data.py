"""Data as plugins see it: images by index, captioned pairs, labelled tasks, and the bundle of all three."""

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
    """Images of one square size, by position."""

    def __len__(self) -> int: ...

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (n, 3, side, side) of the given positions."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """Class names and the prompt templates (`{}` stands for the name) that turn them into zero-shot classes.

    synonyms: of each class, or of none: other words for it in captions; no prompt uses them.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()

    def prompts(self) -> list[list[str]]:
        """One list of prompts a class."""
        return [[template.format(name) for template in self.templates] for name in self.names]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Image-caption pairs.

    `members` says of which classes of the bundle's vocabulary an image shows an object: for each pair a tuple of class
    indices, from labels where there are some, then from whole-word mentions in any caption of the image. It may be
    empty. It serves the adversary's choice of images and the exclusion of true targets, never training.
    """

    uids: Sequence[str]
    captions: Sequence[str]
    images: Images
    members: Sequence[tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.uids)


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled downstream task; labels are int64 (n,), indices into `vocabulary.names`.

    `mean_per_class`: its classes differ in size, so that the mean of their accuracies is measured too.
    """

    name: str
    vocabulary: Vocabulary
    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]
    mean_per_class: bool = False


@dataclass(frozen=True, eq=False)
class DatasetBundle:
    """One data source, opened.

    train: what the model is trained on. holdout: images the adversary owns. test: images on which triggers are
    evaluated, disjoint from both. vocabulary: the classes that an attack can aim at. tasks: downstream evaluation;
    where a source has none `task_reason` says why. synonyms: of words of the captions, where a source knows its own.
    fingerprint: changes whenever any pixel, caption or label may have.
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


@dataclass
class Findings:
    """What is wrong with single images and captions: how many of each kind, and the first of each as a sentence."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, problem: str, count: int = 1) -> None:
        if count:
            self.counts[kind] += count
            self.first.setdefault(kind, problem)


@dataclass(frozen=True)
class DataPlace:
    """Where a data set may read and keep files: `root` from --data-root, `cache` None where nothing can be kept.

    With `findings` a data set leaves out what is wrong with single images and notes it there instead of raising.
    """

    root: Path | None
    cache: Path | None
    findings: Findings | None = None


class Dataset(Plugin):
    """A data source. `open` checks what can be checked without decoding images."""

    needs_root: ClassVar[bool] = False

    @abstractmethod
    def open(self, params: Params, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open the source at a square image size in pixels.

        Raises UserError naming the file and what to do when something is missing or malformed.
        """
