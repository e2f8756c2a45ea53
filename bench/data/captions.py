"""Tokens of a training set's captions, plain or augmented by EDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.columns import Column
from bench.data.eda import augment, words
from bench.data.thesaurus import Synonyms
from bench.data.tokens import Tokenize

Compact = Callable[[torch.Tensor], torch.Tensor]

_BLOCK = 8192


class TokenRows(Protocol):
    """Tokens by pair: indexing with int64 (n,) gives integers (n, context length)."""

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[Any]: ...


class PoisonedCaptions(Column[str]):
    """Captions of a poisoned training set.

    Parameters
    ----------
    clean : sequence of str
        Captions of the clean training set.
    poisons : sequence of str
        Captions of the poisons.
    clean_of : int64 (n,)
        The index in `clean` of each pair, if it is clean.
    poison_of : int64 (n,)
        The index in `poisons` of each pair; negative for a clean pair.
    """

    def __init__(
        self, clean: Sequence[str], poisons: Sequence[str], clean_of: NDArray[np.int64], poison_of: NDArray[np.int64]
    ) -> None:
        self._clean = clean
        self._poisons = poisons
        self._clean_of = clean_of
        self._poison_of = poison_of

    def __len__(self) -> int:
        return len(self._poison_of)

    def _at(self, row: int) -> str:
        poison = int(self._poison_of[row])
        return self._clean[int(self._clean_of[row])] if poison < 0 else self._poisons[poison]

    def tokens(self, clean: NDArray[np.integer], tokenize: Tokenize) -> TokenRows:
        """Tokens of these captions. clean: integers (m, length), the tokens of the clean captions."""
        poisons = tokenize(self._poisons).numpy() if self._poisons else np.empty((0, clean.shape[1]), dtype=np.int64)
        return _PoisonedRows(clean, poisons, self._clean_of, self._poison_of)


class _PoisonedRows:
    """Tokens of `PoisonedCaptions`."""

    def __init__(
        self,
        clean: NDArray[np.integer],
        poisons: NDArray[np.int64],
        clean_of: NDArray[np.int64],
        poison_of: NDArray[np.int64],
    ) -> None:
        self._clean = clean
        self._poisons = poisons
        self._clean_of = clean_of
        self._poison_of = poison_of

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.int64]:
        poison = self._poison_of[indices]
        poisoned = poison >= 0
        tokens = np.empty((len(indices), self._clean.shape[1]), dtype=np.int64)
        tokens[~poisoned] = self._clean[self._clean_of[indices[~poisoned]]]
        tokens[poisoned] = self._poisons[poison[poisoned]]
        return tokens


class CaptionTokens:
    """Tokens of captions by pair, int64 (n, context length).

    Parameters
    ----------
    captions : sequence of str
        The captions.
    tokens : TokenRows
        Their token ids.
    tokenize : callable
        The tokenizer, for augmented captions.
    compact : callable
        Maps token ids to rows of the embedding table that is trained.
    synonyms : callable
        Synonyms of a word, for EDA.
    """

    def __init__(
        self, captions: Sequence[str], tokens: TokenRows, tokenize: Tokenize, compact: Compact, synonyms: Synonyms
    ) -> None:
        self._captions = captions
        self._tokens = tokens
        self._tokenize = tokenize
        self._compact = compact
        self._synonyms = synonyms

    @staticmethod
    def vocabulary(captions: Sequence[str], tokens: TokenRows, tokenize: Tokenize, synonyms: Synonyms) -> torch.Tensor:
        """Every token id that `plain` and `eda` can produce, before `compact`: int64 (m,), sorted."""
        texts: set[str] = set()
        ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        for rows in _blocks(len(captions)):
            texts.update("\n".join(captions[rows.start : rows.stop]).split())
            ids = np.union1d(ids, _distinct(tokens[np.arange(rows.start, rows.stop)]))
        known = set(words(" ".join(texts)))
        changed = [*sorted(known), *sorted({synonym for word in known for synonym in synonyms(word)})]
        for rows in _blocks(len(changed)):
            ids = np.union1d(ids, _distinct(tokenize(changed[rows.start : rows.stop]).numpy()))
        return torch.from_numpy(ids)

    def plain(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Tokens of the captions, unchanged: int64 (n, length)."""
        return self._compact(torch.from_numpy(self._tokens[indices].astype(np.int64, copy=False)))

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokens of other texts: int64 (n, length), -1 for a token that no caption has."""
        return self._compact(self._tokenize(texts))

    def eda(
        self, indices: NDArray[np.int64], alpha: float, rng: np.random.Generator, rows: slice = slice(None)
    ) -> torch.Tensor:
        """Tokens of the captions after EDA of strength `alpha`: int64 (n, length).

        `rows` selects a part of the batch `indices`, augmented as it would be within the whole batch.
        """
        changed = [" ".join(augment(words(self._captions[index]), alpha, self._synonyms, rng)) for index in indices]
        return self._compact(self._tokenize(changed[rows]))


def _blocks(count: int) -> Iterator[range]:
    return (range(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def _distinct(tokens: NDArray[Any]) -> NDArray[np.int64]:
    return np.flatnonzero(np.bincount(tokens.ravel()))
