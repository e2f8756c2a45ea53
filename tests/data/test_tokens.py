"""Tokens in a file: the rows of the tokenizer, whatever happens to the file."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from bench.data.captions import CaptionTokens, PoisonedCaptions
from bench.data.eda import words
from bench.data.tokens import cached_tokens

CAPTIONS = [f"a {colour} {thing}, number {number}" for number in range(400) for colour in ("red", "été") for thing in "abcdefg"]


class Counting:
    """A tokenizer of ids up to `largest` that counts its captions."""

    def __init__(self, largest: int = 49407) -> None:
        self.vocab_size = largest + 1
        self.captions = 0

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        self.captions += len(texts)
        numbers = [[self.vocab_size - 1, *(ord(letter) for letter in text.ljust(12)[-12:])] for text in texts]
        return torch.tensor(numbers, dtype=torch.int64)


def kept(folder: Path | None, tokenize: Counting, captions: Sequence[str] = CAPTIONS, identity: str = "x") -> np.ndarray:
    return cached_tokens(captions, tokenize, identity, folder, lambda count: None)


@pytest.mark.parametrize("largest", [300, 65535, 65536, 250_000])
@pytest.mark.parametrize("in_folder", [True, False])
def test_rows_are_those_of_the_tokenizer(tmp_path: Path, largest: int, in_folder: bool) -> None:
    for _ in range(2):
        tokens = kept(tmp_path if in_folder else None, Counting(largest))
        assert tokens.dtype == (np.uint16 if largest < 65536 else np.int32)
        assert np.array_equal(tokens, Counting(largest)(CAPTIONS).numpy())
        assert isinstance(tokens, np.memmap) == in_folder


def test_clips_tokenizer_fits_two_bytes(tmp_path: Path) -> None:
    tokenize = open_clip.SimpleTokenizer(context_length=20)
    tokens = cached_tokens(CAPTIONS[:50], tokenize, "clip", tmp_path, lambda count: None)
    assert tokens.dtype == np.uint16
    assert np.array_equal(tokens, tokenize(CAPTIONS[:50]).numpy())


def test_tokens_are_cached_until_captions_or_tokenizer_change(tmp_path: Path) -> None:
    tokenize = Counting()

    def new(captions: Sequence[str], identity: str = "x") -> int:
        before = tokenize.captions
        assert np.array_equal(kept(tmp_path, tokenize, captions, identity), Counting()(captions).numpy())
        return tokenize.captions - before

    assert new(CAPTIONS) > len(CAPTIONS)
    assert new(list(CAPTIONS)) < 10
    assert new([*CAPTIONS[:-1], "another"]) > len(CAPTIONS)
    assert new(CAPTIONS[::-1]) > len(CAPTIONS)
    assert new([*CAPTIONS[:-2], "".join(CAPTIONS[-2:]), ""]) > len(CAPTIONS)
    assert new(CAPTIONS, "another tokenizer") > len(CAPTIONS)
    assert new(CAPTIONS) < 10


@pytest.mark.parametrize("damage", ["short", "long", "empty", "a byte", "the last byte"])
def test_a_damaged_cache_file_is_replaced(tmp_path: Path, damage: str) -> None:
    whole = np.array(kept(tmp_path, Counting()))
    (file,) = (tmp_path / "tokens").iterdir()
    content = bytearray(file.read_bytes())
    if damage == "short":
        content = content[:-40]
    elif damage == "long":
        content += b"x"
    elif damage == "empty":
        content.clear()
    else:
        content[-1 if "last" in damage else len(content) // 2] ^= 1
    file.write_bytes(content)
    tokenize = Counting()
    assert np.array_equal(kept(tmp_path, tokenize), whole)
    assert tokenize.captions > len(CAPTIONS)
    tokenize = Counting()
    assert np.array_equal(kept(tmp_path, tokenize), whole)
    assert tokenize.captions < 10


def test_an_interruption_leaves_no_file_and_progress_counts_every_caption(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        assert 0 < done < len(CAPTIONS)
        raise KeyboardInterrupt

    heard: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        cached_tokens(CAPTIONS, Counting(), "x", tmp_path, stop)
    assert list((tmp_path / "tokens").iterdir()) == []
    cached_tokens(CAPTIONS, Counting(), "x", tmp_path, heard.append)
    assert heard == sorted(set(heard))
    assert heard[-1] == len(CAPTIONS)


def test_processes_that_fill_the_cache_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    start = multiprocessing.get_context("fork")
    together = start.Barrier(3)
    fillers = [start.Process(target=_fill, args=(tmp_path, together)) for _ in range(3)]
    for each in fillers:
        each.start()
    for each in fillers:
        each.join(60)
    assert [each.exitcode for each in fillers] == [0, 0, 0]
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    tokenize = Counting()
    assert np.array_equal(kept(tmp_path, tokenize), Counting()(CAPTIONS).numpy())
    assert tokenize.captions < 10


def _fill(folder: Path, together: Barrier) -> None:
    """Fill the cache, and wait before each block until the others have come as far."""

    def wait(done: int) -> None:
        together.wait(30)

    tokens = cached_tokens(CAPTIONS, Counting(), "x", folder, wait)
    assert isinstance(tokens, np.memmap)
    assert np.array_equal(tokens, Counting()(CAPTIONS).numpy())


def test_an_unwritable_cache_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a file where a folder should be")
    assert np.array_equal(kept(tmp_path, Counting()), Counting()(CAPTIONS).numpy())


def test_tokens_of_poisoned_captions_are_those_of_their_texts(tmp_path: Path) -> None:
    clean, poisons = CAPTIONS[:60], ["poison one", "poison two", "poison three"]
    rng = np.random.default_rng(0)
    place, row = rng.permutation(63), np.full(63, -1)
    row[place == 5], row[place == 60], row[place == 61], row[place == 62] = 0, 1, 2, 0
    mixed = PoisonedCaptions(clean, poisons, place, row)
    expected = [poisons[mark] if mark >= 0 else clean[source] for source, mark in zip(place, row, strict=True)]
    assert list(mixed) == mixed[:] == expected
    assert mixed[3:20:4] == expected[3:20:4]
    tokens = mixed.tokens(kept(tmp_path, Counting(), clean), Counting())
    for rows in (np.arange(63), np.array([7, 7, 0]), np.flatnonzero(row >= 0), np.array([], dtype=np.int64)):
        assert np.array_equal(tokens[rows], Counting()([expected[index] for index in rows]).numpy().reshape(-1, 13))
    alone = PoisonedCaptions(clean, [], np.arange(60), np.full(60, -1))
    assert np.array_equal(alone.tokens(kept(None, Counting(), clean), Counting())[np.arange(60)], Counting()(clean).numpy())


def test_the_vocabulary_is_that_of_captions_words_and_synonyms() -> None:
    """One caption after the other; words of two captions never run together."""
    captions = ["A red,blue square", "unknown things", "don't — été", "", "a red circle", "the well-known cat's eye"] * 3

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return open_clip.get_tokenizer("RN50")(list(texts), 16)

    def synonyms(word: str) -> list[str]:
        return {"red": ["crimson", "deep scarlet"], "été": ["summer"]}.get(word, [])

    texts = {*captions, *(word for caption in captions for word in words(caption))}
    texts |= {synonym for text in texts for synonym in synonyms(text)}
    expected = sorted(set(tokenize(sorted(texts)).flatten().tolist()))
    found = CaptionTokens.vocabulary(captions, tokenize(captions).numpy(), tokenize, synonyms)
    assert found.tolist() == expected
