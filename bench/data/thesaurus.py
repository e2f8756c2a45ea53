"""Synonyms of words: the data set's own, or WordNet's if it is installed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

Synonyms = Callable[[str], tuple[str, ...]]
Thesaurus = Literal["dataset", "wordnet", "none"]

_DEBIAN = Path("/usr/share/wordnet")


def synonyms(thesaurus: str, own: Mapping[str, tuple[str, ...]]) -> Synonyms:
    """A function that returns the single-word synonyms of a word.

    Parameters
    ----------
    thesaurus : {"dataset", "wordnet", "none"}
        Where they come from.
    own : mapping of str to tuple of str
        The synonyms of the data set.
    """
    if thesaurus == "dataset":
        return lambda word: own.get(word, ())
    return _wordnet_synonyms if thesaurus == "wordnet" else lambda word: ()


def best(own: Mapping[str, tuple[str, ...]]) -> Thesaurus:
    """The best thesaurus available: the data set's own, else WordNet, else none."""
    if own:
        return "dataset"
    return "wordnet" if _wordnet() is not None else "none"


@cache
def _wordnet() -> Any | None:
    """NLTK's reader of WordNet, on NLTK's own data or on the files of Debian's package wordnet-base."""
    try:
        import nltk
        from nltk.corpus import wordnet
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError:
        return None
    try:
        wordnet.ensure_loaded()
        return wordnet
    except LookupError:
        pass

    class DebianReader(WordNetCorpusReader):  # type: ignore[misc]
        """Debian's package lacks one file, the lexicographer file names, which synonyms do not need."""

        def open(self, file: str) -> Any:
            return io.StringIO("\n".join(f"{n:02d}\t{n}\t0" for n in range(45))) if file == "lexnames" else super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """Without mappings to other languages."""

    if not (_DEBIAN / "data.noun").exists():
        return None
    nltk.data.path.append(str(_DEBIAN.parent))  # NLTK only reads below the folders it knows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that other languages are not available
        return DebianReader(str(_DEBIAN), None)


@cache
def _wordnet_synonyms(word: str) -> tuple[str, ...]:
    reader = _wordnet()
    assert reader is not None
    names = {name.lower() for synset in reader.synsets(word) for name in synset.lemma_names()}
    return tuple(sorted(name for name in names if name.isalpha() and name != word))
