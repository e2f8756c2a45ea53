"""The captions of a training set as tokens, as they are or augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.eda import augment, words
from bench.data.thesaurus import Synonyms

Tokenize = Callable[[Sequence[str]], torch.Tensor]
Compact = Callable[[torch.Tensor], torch.Tensor]

_EDA_RATE = 0.1


class CaptionTokens:
    """Tokens int64 (n, length) of captions by position.

    `tokenize` gives the tokenizer's ids, `compact` maps them to rows of the embedding table that is trained.
    """

    def __init__(self, captions: Sequence[str], tokenize: Tokenize, compact: Compact, synonyms: Synonyms) -> None:
        self._captions = captions
        self._tokenize = tokenize
        self._compact = compact
        self._synonyms = synonyms
        self._plain = compact(tokenize(captions)).numpy()

    @staticmethod
    def vocabulary(captions: Sequence[str], synonyms: Synonyms) -> list[str]:
        """Texts whose tokens include every token that `plain` and `eda` can give."""
        known = {word for caption in captions for word in words(caption)}
        return [*captions, *sorted(known), *sorted({synonym for word in known for synonym in synonyms(word)})]

    def plain(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The captions as they are."""
        return torch.from_numpy(self._plain[indices])

    def eda(self, indices: NDArray[np.int64], rng: np.random.Generator, rows: slice = slice(None)) -> torch.Tensor:
        """The captions changed by EDA at a rate of 0.1, with fresh draws; of them `rows`, with the draws of the whole."""
        changed = [" ".join(augment(words(self._captions[index]), _EDA_RATE, self._synonyms, rng)) for index in indices]
        return self._compact(self._tokenize(changed[rows]))
