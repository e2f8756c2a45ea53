"""What of a text a model reads: its context has so many tokens, and tokenizers cut off the rest without a word."""

from __future__ import annotations

from collections.abc import Sequence

from bench.models.word_tokenizer import ModelTokenizer

_BLOCK = 4096


def reads(tokenize: ModelTokenizer, texts: Sequence[str]) -> list[bool]:
    """Whether each text is read to its end: whether one token more of context would bring nothing but padding."""
    whole: list[bool] = []
    for start in range(0, len(texts), _BLOCK):
        block = [*texts[start : start + _BLOCK], ""]
        own = tokenize(block)
        longer = tokenize(block, own.shape[1] + 1)
        same = (longer[:, :-1] == own).all(dim=1) & (longer[:, -1] == longer[-1, -1])
        whole += same[:-1].tolist()
    return whole
