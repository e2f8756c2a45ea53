from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench.data import thesaurus

OWN = {"big": ("large", "huge")}


@dataclass(frozen=True)
class Synset:
    names: tuple[str, ...]

    def lemma_names(self) -> tuple[str, ...]:
        return self.names


class Reader:
    """A fake of NLTK's reader."""

    def synsets(self, word: str) -> list[Synset]:
        return {"big": [Synset(("big", "Large", "grown_up")), Synset(("bad", "large", "A-1"))]}.get(word, [])


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    thesaurus._wordnet_synonyms.cache_clear()
    yield
    thesaurus._wordnet_synonyms.cache_clear()


def test_the_data_sets_own() -> None:
    known = thesaurus.synonyms("dataset", OWN)
    assert known("big") == ("large", "huge")
    assert known("Big") == known("red") == ()


def test_none() -> None:
    assert thesaurus.synonyms("none", OWN)("big") == ()


def test_wordnet_gives_other_single_words_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thesaurus, "_wordnet", Reader)
    known = thesaurus.synonyms("wordnet", OWN)
    assert known("big") == ("bad", "large")
    assert known("xyz") == ()


@pytest.mark.parametrize(
    ("own", "reader", "expected"),
    [(OWN, Reader(), "dataset"), (OWN, None, "dataset"), ({}, Reader(), "wordnet"), ({}, None, "none")],
)
def test_best(own: dict[str, tuple[str, ...]], reader: Reader | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thesaurus, "_wordnet", lambda: reader)
    assert thesaurus.best(own) == expected
