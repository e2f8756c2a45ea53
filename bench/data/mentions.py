"""Which classes a caption mentions, as whole words in any case."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.data.columns import Column

_WORD = re.compile(r"[^\W_]+")


class MentionIndex:
    """Finds class names in captions.

    Words are runs of letters and digits, in names and in captions; everything else, including the underscore, separates
    them. So "Ring tailed_lemur!" mentions "ring-tailed lemur", but "ring-tailed lemurs" does not. A name that two classes
    share counts for both; a name without letters and digits is never mentioned.

    Parameters
    ----------
    names : sequence of str
        The class names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._classes: dict[tuple[str, ...], list[int]] = {}
        self._lengths: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            if words := tuple(_words(name)):
                self._classes.setdefault(words, []).append(index)
        for words in self._classes:
            lengths = self._lengths.setdefault(words[0], [])
            if len(words) not in lengths:
                lengths.append(len(words))

    def members(self, *captions: str) -> tuple[int, ...]:
        """Sorted indices of the classes that at least one of the captions mentions."""
        found: set[int] = set()
        for caption in captions:
            words = _words(caption)
            for start, word in enumerate(words):
                for length in self._lengths.get(word, ()):
                    found.update(self._classes.get(tuple(words[start : start + length]), ()))
        return tuple(sorted(found))


class LazyMembers(Column[tuple[int, ...]]):
    """The classes that each caption mentions, computed on access."""

    def __init__(self, captions: Sequence[str], index: MentionIndex) -> None:
        self._captions = captions
        self._index = index

    def __len__(self) -> int:
        return len(self._captions)

    def _at(self, row: int) -> tuple[int, ...]:
        return self._index.members(self._captions[row])


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
