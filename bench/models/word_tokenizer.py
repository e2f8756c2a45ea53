"""Tokens of plain texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from open_clip.tokenizer import SimpleTokenizer

Tokenizer = Callable[[Sequence[str]], torch.Tensor]

_PLAIN = re.compile(r"[A-Za-z0-9]*(?: [A-Za-z0-9]+)*")
_KEPT_WORDS = 1 << 16


def cached_by_word(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens as `tokenizer`, which for CLIP's own are those of the words where a text is words and single spaces.

    CLIP's tokenizer cleans and splits each text anew, which takes longer than all else that is done to a caption; the tokens of
    a word are kept. Other tokenizers are given back as they are.
    """
    if type(tokenizer) is SimpleTokenizer and tokenizer.reduction_fn is None:  # type: ignore[attr-defined]
        return _WordTokenizer(tokenizer)
    return tokenizer


class _WordTokenizer:
    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self.vocab_size = tokenizer.vocab_size
        self._tokenizer = tokenizer
        self._word = _cached(tokenizer)

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 (n, context length), padded with 0; a text that is too long is cut and keeps its end token."""
        length, end = self._tokenizer.context_length, self._tokenizer.eot_token_id
        rows = []
        for text in texts:
            row = [self._tokenizer.sot_token_id, *self._encoded(text), end]
            if len(row) > length:
                row = [*row[: length - 1], end]
            rows.append(row + [0] * (length - len(row)))
        return torch.tensor(rows, dtype=torch.int64).view(-1, length)

    def _encoded(self, text: str) -> list[int]:
        if not _PLAIN.fullmatch(text):
            return self._tokenizer.encode(text)
        return [token for word in text.split(" ") for token in self._word(word)]


def _cached(tokenizer: SimpleTokenizer) -> Callable[[str], tuple[int, ...]]:
    return lru_cache(_KEPT_WORDS)(lambda word: tuple(tokenizer.encode(word)))
