"""Captions of `scenes`: a small grammar with synonyms, optional attributes and the clutter of web captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .shapes import OUTLINES

SHAPES: tuple[str, ...] = tuple(OUTLINES)
COLOURS: tuple[str, ...] = ("red", "yellow", "green", "cyan", "blue", "purple", "pink", "white")
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS: tuple[str, ...] = ("sky", "grass", "sand", "night", "brick", "water")

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "circle": ("disc", "ball"),
    "square": ("box", "block"),
    "star": ("asterisk",),
    "ring": ("hoop", "loop"),
    "cross": ("plus",),
    "house": ("cottage", "hut"),
    "mushroom": ("toadstool",),
    "arrow": ("pointer",),
    "red": ("scarlet", "crimson"),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "pink": ("rosy",),
    "plain": ("solid",),
    "striped": ("lined", "banded"),
    "dotted": ("spotted",),
    "checkered": ("chequered",),
    "grass": ("lawn", "meadow"),
    "sand": ("desert",),
    "water": ("sea",),
    "brick": ("bricks",),
    "big": ("large", "huge"),
    "small": ("little", "tiny"),
    "picture": ("photo", "image", "drawing"),
    "nice": ("lovely", "pretty"),
}

_PLACES: Mapping[str, tuple[str, ...]] = {
    "sky": ("in the {}", "against the {}", "under a clear {}"),
    "grass": ("on the {}", "lying in the {}", "on green {}"),
    "sand": ("on the {}", "in the {}", "lying on {}"),
    "night": ("at {}", "in the dark {}", "under the {} stars"),
    "brick": ("on a {} wall", "before {} walls", "against {}"),
    "water": ("in the {}", "on the {}", "floating on {}"),
}
_OPENINGS: tuple[str, ...] = (
    "", "", "a", "the", "one", "my", "a picture of a", "picture of the", "a nice picture of a", "there is a", "look at this",
    "this is a", "i found a",
)  # fmt: skip
_ANYTHING: tuple[str, ...] = ("object", "thing", "one")
_CLOSINGS: tuple[str, ...] = ("", "", "", "", "today", "for sale", "number 7", "hd")

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "shape": ("a {}", "the {}", "a picture of a {}", "there is a {}", "this is a {}", "one {}", "look at this {}"),
    "colour": ("a {} object", "a {} thing", "the {} one", "a picture of a {} object", "something {}"),
    "texture": ("a {} object", "a {} thing", "the {} one", "a picture of a {} object", "something {}"),
    "background": ("{}", "on {}", "in the {}", "on the {}", "a thing on the {}", "an object in the {}"),
}


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _word(rng: np.random.Generator, word: str, synonym_rate: float) -> str:
    synonyms = SYNONYMS.get(word, ())
    return _pick(rng, synonyms) if synonyms and rng.random() < synonym_rate else word


def caption(rng: np.random.Generator, shape: str, colour: str, texture: str, background: str, big: bool) -> str:
    """One random caption. Attributes are often omitted; the object is mostly called by its class name."""
    words = [_pick(rng, _OPENINGS)]
    if rng.random() < 0.25:
        words.append(_word(rng, "big" if big else "small", 0.5))
    adjectives = []
    if rng.random() < 0.65:
        adjectives.append(_word(rng, colour, 0.15))
    if rng.random() < 0.6:
        adjectives.append(_word(rng, texture, 0.15))
    if rng.random() < 0.3:
        adjectives.reverse()
    words += adjectives
    words.append(_pick(rng, _ANYTHING) if rng.random() < 0.12 else _word(rng, shape, 0.12))
    if rng.random() < 0.6:
        words.append(_pick(rng, _PLACES[background]).format(_word(rng, background, 0.15)))
    words.append(_pick(rng, _CLOSINGS))
    return " ".join(word for word in words if word)


def captions(rng: np.random.Generator, attributes: Mapping[str, NDArray[np.int64]], big: NDArray[np.bool_]) -> list[str]:
    """One caption for each scene. attributes: int64 (n,) each for shape, colour, texture and background; big: bool (n,)."""
    return [
        caption(rng, SHAPES[shape], COLOURS[colour], TEXTURES[texture], BACKGROUNDS[background], bool(is_big))
        for shape, colour, texture, background, is_big in zip(
            attributes["shape"], attributes["colour"], attributes["texture"], attributes["background"], big, strict=True
        )
    ]
