"""Class names and caption templates of torchvision's labelled data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Vocabulary

# CLIP's prompts for CIFAR (Radford et al. 2021).
_PHOTO = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of a {}.",
    "a low contrast photo of a {}.",
    "a high contrast photo of a {}.",
    "a bad photo of a {}.",
    "a good photo of a {}.",
    "a photo of a small {}.",
    "a photo of a big {}.",
    "a photo of the {}.",
    "a blurry photo of the {}.",
    "a black and white photo of the {}.",
    "a low contrast photo of the {}.",
    "a high contrast photo of the {}.",
    "a bad photo of the {}.",
    "a good photo of the {}.",
    "a photo of the small {}.",
    "a photo of the big {}.",
)
# CLIP's prompt for Food-101 comes first.
_FOOD = (
    "a photo of {}, a type of food.",
    "a photo of {}.",
    "a close-up photo of {}.",
    "a plate of {}.",
    "a picture of {} for lunch.",
    "{}, freshly made.",
    "{} served at a restaurant.",
    "homemade {}.",
)
_GARMENT = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a black and white photo of a {}.",
    "a small picture of a {}.",
    "a product photo of a {}.",
    "a {}, a piece of fashion.",
    "a {} on a black background.",
    "a {} for sale.",
)
# No name is a word of another one: T-shirt/top would mention shirt.
_GARMENTS = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@dataclass(frozen=True)
class Wording:
    """Caption templates and class names; without names, those of the source with underscores as spaces."""

    templates: tuple[str, ...]
    names: tuple[str, ...] = ()

    def vocabulary(self, classes: Sequence[str]) -> Vocabulary:
        return Vocabulary(self.names or tuple(name.replace("_", " ") for name in classes), self.templates)


PHOTOS = Wording(_PHOTO)
FOODS = Wording(_FOOD)
GARMENTS = Wording(_GARMENT, _GARMENTS)


def captions(labels: NDArray[np.int64], vocabulary: Vocabulary, rng: np.random.Generator) -> list[str]:
    """A caption for each label, int64 (n,), from a random template of the vocabulary."""
    chosen = rng.integers(len(vocabulary.templates), size=len(labels))
    return [
        vocabulary.templates[template].format(vocabulary.names[label])
        for template, label in zip(chosen.tolist(), labels.tolist(), strict=True)
    ]
