"""Synonyms of words: the data set's own, or WordNet's where it is installed."""

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
    """A look-up of single-word synonyms in "dataset", "wordnet" or "none"; empty where a word has none."""
    if thesaurus == "dataset":
        return lambda word: own.get(word, ())
    return _wordnet_synonyms if thesaurus == "wordnet" else lambda word: ()


def best(own: Mapping[str, tuple[str, ...]]) -> Thesaurus:
    """The data set's own thesaurus, else WordNet, else none."""
    if own:
        return "dataset"
    return "wordnet" if _wordnet() is not None else "none"


@cache
def _wordnet() -> Any | None:
    """nltk's reader on nltk's own data or on Debian's wordnet-base files."""
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
        """Debian ships all files but the names of the lexicographers' files, which synonyms do not need."""

        def open(self, file: str) -> Any:
            return io.StringIO("\n".join(f"{n:02d}\t{n}\t0" for n in range(45))) if file == "lexnames" else super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping to other languages."""

    if not (_DEBIAN / "data.noun").exists():
        return None
    nltk.data.path.append(str(_DEBIAN.parent))  # nltk reads only below the folders it knows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that other languages are not available
        return DebianReader(str(_DEBIAN), None)


@cache
def _wordnet_synonyms(word: str) -> tuple[str, ...]:
    reader = _wordnet()
    assert reader is not None
    names = {name.lower() for synset in reader.synsets(word) for name in synset.lemma_names()}
    return tuple(sorted(name for name in names if name.isalpha() and name != word))
