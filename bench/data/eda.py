"""EDA, easy data augmentation of captions (Wei & Zou 2019)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from bench.data.thesaurus import Synonyms

_WORD = re.compile(r"[^\W_]+")

_FUNCTION_WORDS = """
    i me my myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
    itself they them their theirs themselves who whom whose which what this that these those
    a an the and but or nor if than as because until while so
    of at by for from with without about against between among into through during before after above below under over to up
    down in out on off upon within across toward towards
    am is are was were be been being do does did doing have has had having can could will would shall should may might must
    not no only own same such very too just again further then once here there when where why how now
    all any both each few more most other some every either neither
    s t d m ll re ve don isn aren wasn weren doesn didn hasn haven hadn
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words and parts of contractions, which are neither replaced nor a source of inserted synonyms."""


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case: runs of letters and digits."""
    return _WORD.findall(caption.lower())


def augment(caption: Sequence[str], alpha: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    """Apply one random operation: synonym replacement, random insertion, random swap or random deletion.

    The first three are applied max(1, floor(alpha n)) times, as far as possible, to a caption of n words; deletion removes each
    word with probability alpha, but never all of them. Deviations from the authors' code: stop words are not a source of
    insertions, as in the paper; of a word that occurs twice only one occurrence is replaced; any synonym may be inserted, not
    only the first.

    Parameters
    ----------
    caption : sequence of str
        Words, as from `words`.
    alpha : float
        In [0, 1]; 0 changes nothing.
    synonyms : callable
        The synonyms of a word.
    rng : numpy.random.Generator
        Source of all draws.

    Returns
    -------
    list of str
        The words of the augmented caption.
    """
    if not alpha or not caption:
        return list(caption)
    operation = _OPERATIONS[rng.integers(len(_OPERATIONS))]
    return operation(caption, alpha, synonyms, rng)


def _replaced(caption: Sequence[str], alpha: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    changed = list(caption)
    places = _with_synonyms(caption, synonyms)
    for number in rng.permutation(len(places))[: _count(caption, alpha)].tolist():
        place = places[number]
        changed[place] = _drawn(synonyms(caption[place]), rng)
    return changed


def _inserted(caption: Sequence[str], alpha: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    changed = list(caption)
    places = _with_synonyms(caption, synonyms)
    for _ in range(_count(caption, alpha) if places else 0):
        synonym = _drawn(synonyms(caption[places[rng.integers(len(places))]]), rng)
        changed.insert(int(rng.integers(len(changed) + 1)), synonym)
    return changed


def _swapped(caption: Sequence[str], alpha: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    changed = list(caption)
    n = len(changed)
    for _ in range(_count(caption, alpha) if n > 1 else 0):
        first = int(rng.integers(n))
        second = (first + 1 + int(rng.integers(n - 1))) % n
        changed[first], changed[second] = changed[second], changed[first]
    return changed


def _deleted(caption: Sequence[str], alpha: float, synonyms: Synonyms, rng: np.random.Generator) -> list[str]:
    kept = [word for word, draw in zip(caption, rng.random(len(caption)).tolist(), strict=True) if draw >= alpha]
    return kept or [_drawn(caption, rng)]


_OPERATIONS: tuple[Callable[[Sequence[str], float, Synonyms, np.random.Generator], list[str]], ...] = (
    _replaced,
    _inserted,
    _swapped,
    _deleted,
)


def _count(caption: Sequence[str], alpha: float) -> int:
    return max(1, int(alpha * len(caption)))


def _with_synonyms(caption: Sequence[str], synonyms: Synonyms) -> list[int]:
    """Indices of the words that have synonyms and are not stop words."""
    return [place for place, word in enumerate(caption) if word not in STOP_WORDS and synonyms(word)]


def _drawn(known: Sequence[str], rng: np.random.Generator) -> str:
    return known[int(rng.integers(len(known)))]
