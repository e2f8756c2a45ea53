from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from bench.data.captions import CaptionTokens
from bench.data.eda import words
from bench.data.thesaurus import Synonyms
from bench.models.vocabulary import CompactVocabulary

CHAIN = {"big": ("large",), "large": ("vast",), "vast": ("immense",), "red": ("scarlet",), "scarlet": ("crimson",)}
CAPTIONS = [
    "A big red circle!",
    "snow_man's hat-trick, 7up & 3.5mm",
    "a LARGE crêpe in 東京 &amp; İstanbul",
    "?!...",
    "",
    "don't   you'll we've",
    "word " * 90 + "last",
    "antidisestablishmentarianism #hashtag @user http://x.yz/a_b",
]


def _chain(word: str) -> tuple[str, ...]:
    return CHAIN.get(word, ())


def _everything(word: str) -> tuple[str, ...]:
    """Synonyms of synonyms without end."""
    return (word[::-1], f"{word}ly")


class OneTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(49408, 1)


@pytest.fixture(scope="module")
def tokenize() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=32)


def _captions(texts: Sequence[str], tokenize: open_clip.SimpleTokenizer, known: Synonyms) -> tuple[CaptionTokens, set[int]]:
    tokens = tokenize(texts).numpy()
    vocabulary = CompactVocabulary(OneTower(), CaptionTokens.vocabulary(texts, tokens, tokenize, known))
    return CaptionTokens(texts, tokens, tokenize, vocabulary.compact, known), set(vocabulary._used.tolist())


@pytest.mark.parametrize("known", [_chain, _everything])
def test_the_vocabulary_covers_every_token_that_eda_can_give(known: Synonyms, tokenize: open_clip.SimpleTokenizer) -> None:
    tokens, used = _captions(CAPTIONS, tokenize, known)
    rng, every = np.random.default_rng(0), np.arange(len(CAPTIONS))
    for _ in range(150):
        made = tokens.eda(every, 0.3, rng)
        assert made.min() >= 0, "a token that the vocabulary lacks"
        assert made.max() < len(used)


def test_the_vocabulary_is_that_of_captions_their_words_and_synonyms(
    tokenize: open_clip.SimpleTokenizer,
) -> None:
    known = {word for caption in CAPTIONS for word in words(caption)}
    texts = [*CAPTIONS, *known, *(synonym for word in known for synonym in _chain(word))]
    found = CaptionTokens.vocabulary(CAPTIONS, tokenize(CAPTIONS).numpy().astype(np.uint16), tokenize, _chain)
    assert found.dtype == torch.int64
    assert found.tolist() == sorted(set(tokenize(texts).flatten().tolist()))


def test_the_vocabulary_of_random_captions(tokenize: open_clip.SimpleTokenizer) -> None:
    rng = np.random.default_rng(1)
    letters = np.array(list("abcdefgh ijklmnop 0123456789 -_'.,&ÄöéßñçøÅИЖ漢字½²"))
    texts = ["".join(rng.choice(letters, size=int(rng.integers(1, 60)))) for _ in range(60)]
    tokens, _ = _captions(texts, tokenize, _everything)
    assert all(tokens.eda(np.arange(60), 0.3, rng).min() >= 0 for _ in range(10))


def test_plain_tokens_are_those_of_the_tokenizer(tokenize: open_clip.SimpleTokenizer) -> None:
    tokens = CaptionTokens(CAPTIONS, tokenize(CAPTIONS).numpy(), tokenize, lambda ids: ids + 1, _chain)
    rows = np.array([3, 0, 7, 0])
    assert torch.equal(tokens.plain(rows), tokenize([CAPTIONS[row] for row in rows]) + 1)
    assert tokens.plain(rows).dtype == torch.int64


def test_eda_is_drawn_anew_and_follows_the_generator(tokenize: open_clip.SimpleTokenizer) -> None:
    rows = np.array([0, 1, 0, 0])
    tokens = CaptionTokens(CAPTIONS, tokenize(CAPTIONS).numpy(), tokenize, lambda ids: ids, _chain)
    first, again = (tokens.eda(rows, 0.1, np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (4, 32)
    rng = np.random.default_rng(0)
    tokens.eda(rows, 0.1, rng)
    assert not torch.equal(first, tokens.eda(rows, 0.1, rng))
