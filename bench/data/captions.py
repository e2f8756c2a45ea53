"""The captions of a training set as tokens, as they are or augmented."""

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
    """Tokens by position: indexed with int64 (n,) they give integers (n, length)."""

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[Any]: ...


class PoisonedCaptions(Column[str]):
    """Caption i is poisons[row[i]], or clean[place[i]] where row[i] is negative; row, place: int64 (n,)."""

    def __init__(self, clean: Sequence[str], poisons: Sequence[str], place: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        self._clean = clean
        self._poisons = poisons
        self._place = place
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    def _at(self, row: int) -> str:
        poison = self._row[row]
        return self._clean[self._place[row]] if poison < 0 else self._poisons[poison]

    def tokens(self, clean: NDArray[np.integer], tokenize: Tokenize) -> TokenRows:
        """Tokens of these captions, given those of the clean ones."""
        poisons = tokenize(self._poisons).numpy() if self._poisons else np.empty((0, clean.shape[1]), dtype=np.int64)
        return _PoisonedRows(clean, poisons, self._place, self._row)


class _PoisonedRows:
    """Rows as `PoisonedCaptions` places them."""

    def __init__(
        self,
        clean: NDArray[np.integer],
        poisons: NDArray[np.int64],
        place: NDArray[np.int64],
        row: NDArray[np.int64],
    ) -> None:
        self._clean = clean
        self._poisons = poisons
        self._place = place
        self._row = row

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.int64]:
        row = self._row[indices]
        ours = row >= 0
        tokens = np.empty((len(indices), self._clean.shape[1]), dtype=np.int64)
        tokens[~ours] = self._clean[self._place[indices[~ours]]]
        tokens[ours] = self._poisons[row[ours]]
        return tokens


class CaptionTokens:
    """Tokens int64 (n, length) of captions by position.

    `tokens` are the tokenizer's ids of the captions and `tokenize` gives those of changed ones; `compact` maps ids to rows of
    the embedding table that is trained.
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
        """Every id that `plain` and `eda` can give, before `compact`: int64 (m,), sorted."""
        known: set[str] = set()
        ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        for rows in _blocks(len(captions)):
            known.update(words("\n".join(captions[rows.start : rows.stop])))
            ids = np.union1d(ids, _distinct(tokens[np.arange(rows.start, rows.stop)]))
        changed = [*sorted(known), *sorted({synonym for word in known for synonym in synonyms(word)})]
        for rows in _blocks(len(changed)):
            ids = np.union1d(ids, _distinct(tokenize(changed[rows.start : rows.stop]).numpy()))
        return torch.from_numpy(ids)

    def plain(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The captions as they are."""
        return self._compact(torch.from_numpy(self._tokens[indices].astype(np.int64, copy=False)))

    def eda(
        self, indices: NDArray[np.int64], alpha: float, rng: np.random.Generator, rows: slice = slice(None)
    ) -> torch.Tensor:
        """The captions changed by EDA of strength `alpha`, with fresh draws; of them `rows`, with the draws of the whole."""
        changed = [" ".join(augment(words(self._captions[index]), alpha, self._synonyms, rng)) for index in indices]
        return self._compact(self._tokenize(changed[rows]))


def _blocks(count: int) -> Iterator[range]:
    return (range(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def _distinct(tokens: NDArray[Any]) -> NDArray[np.int64]:
    return np.flatnonzero(np.bincount(tokens.ravel()))
