"""A tokenizer that caches the tokens of each word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

Tokenizer = Callable[[Sequence[str]], torch.Tensor]


class ModelTokenizer(Protocol):
    """A tokenizer that can also give more or fewer tokens than its model reads."""

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Tokens of n texts, padded and truncated: int64 (n, context length)."""
        ...


_CACHE_SIZE = 1 << 18


def cached_by_word(tokenizer: ModelTokenizer) -> ModelTokenizer:
    """A faster tokenizer with the same tokens: CLIP's own is cached by word, others are returned unchanged.

    CLIP's tokenizer cleans and splits each text anew, which takes longer than all other processing of a caption. Printable
    ASCII without HTML entities is clean already, and no token reaches over a space, so its tokens are those of its words.
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
        length = context_length or self._tokenizer.context_length
        found = [self._encoded(text)[: length - 2] for text in texts]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        tokens = np.zeros((len(found), length), dtype=np.int64)
        tokens[:, 0] = self._tokenizer.sot_token_id
        inner = np.arange(length - 2) < counts[:, None]
        tokens[:, 1:-1][inner] = np.fromiter(chain.from_iterable(found), np.int64, counts.sum())
        tokens[np.arange(len(found)), counts + 1] = self._tokenizer.eot_token_id
        return torch.from_numpy(tokens)

    def _encoded(self, text: str) -> list[int]:
        if not text.isascii() or not text.isprintable() or "&" in text:
            return list(self._tokenizer.encode(text))
        return [token for word in text.split() for token in self._word(word)]


def _cached(tokenizer: SimpleTokenizer) -> Callable[[str], tuple[int, ...]]:
    return lru_cache(_CACHE_SIZE)(lambda word: tuple(tokenizer.encode(word)))
