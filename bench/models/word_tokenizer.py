"""A tokenizer that caches the tokens of each word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import torch
from open_clip.tokenizer import SimpleTokenizer

Tokenizer = Callable[[Sequence[str]], torch.Tensor]


class ModelTokenizer(Protocol):
    """A tokenizer that can also give more or fewer tokens than its model reads."""

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Tokens of n texts, padded and truncated: int64 (n, context length)."""
        ...


_PLAIN = re.compile(r"[A-Za-z0-9]*(?: [A-Za-z0-9]+)*")
_CACHE_SIZE = 1 << 16


def cached_by_word(tokenizer: ModelTokenizer) -> ModelTokenizer:
    """A faster tokenizer with the same tokens: CLIP's own is cached by word, others are returned unchanged.

    CLIP's tokenizer cleans and splits each text anew, which takes longer than all other processing of a caption. The tokens of
    a text that consists of words and single spaces are those of its words.
    """
    if type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None:  # type: ignore[attr-defined]
        return _WordTokenizer(tokenizer)
    return tokenizer


class _WordTokenizer:
    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self._word = _cached(tokenizer)

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Tokens of texts, int64 (n, context length), padded with 0; a long text is truncated and keeps its end token."""
        length, end = context_length or self._tokenizer.context_length, self._tokenizer.eot_token_id
        rows = []
        for text in texts:
            row = [self._tokenizer.sot_token_id, *self._encoded(text), end]
            if len(row) > length:
                row = [*row[: length - 1], end]
            rows.append(row + [0] * (length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).view(-1, length)

    def _encoded(self, text: str) -> list[int]:
        if not _PLAIN.fullmatch(text):
            return list(self._tokenizer.encode(text))
        return [token for word in text.split(" ") for token in self._word(word)]


def _cached(tokenizer: SimpleTokenizer) -> Callable[[str], tuple[int, ...]]:
    return lru_cache(_CACHE_SIZE)(lambda word: tuple(tokenizer.encode(word)))
