"""Which classes a caption mentions, as whole words in any case and script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain

import regex

from bench.api.data import Vocabulary
from bench.data.columns import Column

_ASCII_WORD = re.compile(r"[^\W_]+")
# Scripts without spaces between words: each of their letters is a word of its own, with the marks on it.
_UNSPACED = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}"
_LETTER = rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*"
_WORD = regex.compile(rf"(?V1){_LETTER}|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]+")
_UNSPACED_WORD = regex.compile(rf"(?V1){_LETTER}")


class MentionIndex:
    """Finds class names, and synonyms of classes, in captions.

    Words are runs of letters and digits, in names and in captions; everything else, including the underscore, separates
    them. So "Ring tailed_lemur!" mentions "ring-tailed lemur", but "ring-tailed lemurs" does not. A name that two classes
    share counts for both; a name without letters and digits is never mentioned.

    If any name is not ASCII, combining marks belong to words, and scripts without spaces between words, such as Chinese,
    Japanese and Thai, are matched letter by letter; a name in one of them is not mentioned where it is part of a longer name.

    Parameters
    ----------
    names : sequence of str
        The class names.
    synonyms : sequence of sequences of str
        Other words for each class; empty if there are none.
    """

    def __init__(self, names: Sequence[str], synonyms: Sequence[Sequence[str]] = ()) -> None:
        self._ascii = all(name.isascii() for name in chain(names, *synonyms))
        self._classes: dict[tuple[str, ...], list[int]] = {}
        self._lengths: dict[str, list[int]] = {}
        spoken = [(name, index) for index, name in enumerate(names)]
        spoken += [(name, index) for index, others in enumerate(synonyms) for name in others]
        for name, index in spoken:
            if words := tuple(self._words(name)):
                classes = self._classes.setdefault(words, [])
                if index not in classes:
                    classes.append(index)
        for words in self._classes:
            lengths = self._lengths.setdefault(words[0], [])
            if len(words) not in lengths:
                lengths.append(len(words))
        self._unspaced = {words for words in self._classes if not self._ascii and all(map(_UNSPACED_WORD.fullmatch, words))}

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> MentionIndex:
        return cls(vocabulary.names, vocabulary.synonyms)

    def members(self, *captions: str) -> tuple[int, ...]:
        """Sorted indices of the classes that at least one of the captions mentions."""
        found: set[int] = set()
        for caption in captions:
            for words in self._mentioned(self._words(caption)):
                found.update(self._classes[words])
        return tuple(sorted(found))

    def _mentioned(self, words: list[str]) -> Iterator[tuple[str, ...]]:
        """The names, as words, that occur among `words`."""
        places = [
            (start, start + length)
            for start, word in enumerate(words)
            for length in self._lengths.get(word, ())
            if tuple(words[start : start + length]) in self._classes
        ]
        for start, end in places:
            name = tuple(words[start:end])
            longer = ((first, last) != (start, end) and first <= start and end <= last for first, last in places)
            if name not in self._unspaced or not any(longer):
                yield name

    def _words(self, text: str) -> list[str]:
        if self._ascii:
            return [word.casefold() for word in _ASCII_WORD.findall(text)]
        return _WORD.findall(unicodedata.normalize("NFC", text).casefold())  # type: ignore[no-any-return]


class LazyMembers(Column[tuple[int, ...]]):
    """The classes that each caption mentions, computed on access."""

    def __init__(self, captions: Sequence[str], index: MentionIndex) -> None:
        self._captions = captions
        self._index = index

    def __len__(self) -> int:
        return len(self._captions)

    def _at(self, row: int) -> tuple[int, ...]:
        return self._index.members(self._captions[row])
