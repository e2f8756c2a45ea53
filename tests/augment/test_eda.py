from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from bench.data.eda import STOP_WORDS, augment, words
from bench.data.scenes import grammar

SYNONYMS = {"big": ("large", "huge"), "red": ("scarlet",), "large": ("vast",), "scarlet": ("crimson",)}
CAPTION = ["a", "big", "red", "circle", "on", "the", "green", "lawn", "today"]


def _known(word: str) -> tuple[str, ...]:
    return SYNONYMS.get(word, ())


def _nothing(word: str) -> tuple[str, ...]:
    return ()


def _own(word: str) -> tuple[str, ...]:
    """One synonym for every word."""
    return (f"s{word}",)


def _operation(before: Sequence[str], after: Sequence[str]) -> str:
    """Which operation was applied to distinct words, whose synonyms are those of `_own`."""
    foreign = sum(word not in before for word in after)
    if foreign:
        return "replacement" if len(after) == len(before) else "insertion"
    if len(after) < len(before) or list(after) == list(before):
        return "deletion"
    return "swap"


def _edits(before: Sequence[str], after: Sequence[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(after) + 1))
    for i, word in enumerate(before, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(after, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Red circle!", ["a", "red", "circle"]),
        ("snow_man's  hat-trick", ["snow", "man", "s", "hat", "trick"]),
        ("number 7up, 3.5mm", ["number", "7up", "3", "5mm"]),
        ("Über çafé 東京", ["über", "çafé", "東京"]),
        ("", []),
        ("?!... _", []),
    ],
)
def test_words(caption: str, expected: list[str]) -> None:
    assert words(caption) == expected


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_never_empty_and_only_the_captions_words_and_their_synonyms(alpha: float, length: int) -> None:
    rng, caption = np.random.default_rng(0), CAPTION[:length]
    allowed = {*caption, *(synonym for word in caption for synonym in _known(word))}
    for _ in range(300):
        before = list(caption)
        made = augment(caption, alpha, _known, rng)
        assert made
        assert set(made) <= allowed
        assert caption == before


def test_an_empty_caption_stays_empty_and_alpha_zero_turns_it_off() -> None:
    rng = np.random.default_rng(0)
    assert augment([], 0.1, _known, rng) == []
    assert all(augment(CAPTION, 0.0, _known, rng) == CAPTION for _ in range(50))


def test_one_operation_for_each_caption_uniformly() -> None:
    caption, rng, n = [f"w{number}" for number in range(9)], np.random.default_rng(0), 4000
    found = Counter(_operation(caption, augment(caption, 0.1, _own, rng)) for _ in range(n))
    assert all(found[name] / n == pytest.approx(0.25, abs=0.03) for name in ("replacement", "insertion", "swap", "deletion"))


@pytest.mark.parametrize(("length", "alpha", "count"), [(9, 0.1, 1), (3, 0.1, 1), (19, 0.1, 1), (20, 0.1, 2), (20, 0.25, 5)])
def test_how_much_each_operation_changes(length: int, alpha: float, count: int) -> None:
    caption, rng = [f"w{number}" for number in range(length)], np.random.default_rng(0)
    swapped = []
    for _ in range(600):
        made = augment(caption, alpha, _own, rng)
        operation = _operation(caption, made)
        if operation == "replacement":
            assert [f"s{was}" if now != was else was for was, now in zip(caption, made, strict=True)] == made
            assert sum(word.startswith("s") for word in made) == count
        elif operation == "insertion":
            assert [word for word in made if word in caption] == caption
            assert len(made) == length + count
        elif operation == "swap":
            assert sorted(made) == sorted(caption)
            swapped.append(sum(was != now for was, now in zip(caption, made, strict=True)))
    assert max(swapped) <= 2 * count
    assert max(swapped) == 2 if count == 1 else max(swapped) > 2


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.6])
def test_deletion_removes_each_word_with_probability_alpha(alpha: float) -> None:
    """Without synonyms half of the captions are unchanged, a quarter is swapped, and a quarter loses words."""
    rng, caption, n = np.random.default_rng(0), [f"w{number}" for number in range(40)], 2400
    made = [augment(caption, alpha, _nothing, rng) for _ in range(n)]
    left = Counter(word for each in made for word in each)
    assert left.total() / (n * 40) == pytest.approx(1 - alpha / 4, abs=0.015)
    assert min(left.values()) / n == pytest.approx(1 - alpha / 4, abs=0.05)
    assert sum(each == caption for each in made) / n == pytest.approx(0.5, abs=0.05)


def test_alpha_one_deletes_all_but_one_word_of_any() -> None:
    rng = np.random.default_rng(0)
    left = Counter(made[0] for _ in range(3600) if len(made := augment(CAPTION, 1.0, _nothing, rng)) == 1)
    assert left.total() == pytest.approx(900, abs=120)
    assert set(left) == set(CAPTION)
    assert max(left.values()) < 150


def test_stop_words_are_neither_replaced_nor_inserted_from() -> None:
    rng = np.random.default_rng(0)
    assert {"a", "on", "the"} <= STOP_WORDS
    foreign = {word for _ in range(600) for word in augment(CAPTION, 0.5, _own, rng)} - set(CAPTION)
    assert foreign == {f"s{word}" for word in CAPTION if word not in ("a", "on", "the")}


def test_words_without_synonyms_are_skipped() -> None:
    """Of nine words two have synonyms: a replacement and an insertion always find one of them."""
    rng, n = np.random.default_rng(0), 2000
    foreign = sum(any(word not in CAPTION for word in augment(CAPTION, 0.1, _known, rng)) for _ in range(n))
    assert foreign / n == pytest.approx(0.5, abs=0.05)


def test_edits_of_the_captions_of_scenes() -> None:
    """About 1.1 words each; a class name, or its synonym, goes with probability alpha in the quarter that deletion takes."""
    rng, n = np.random.default_rng(0), 12_000
    kinds = {"shape": grammar.SHAPES, "colour": grammar.COLOURS, "texture": grammar.TEXTURES, "background": grammar.BACKGROUNDS}
    attributes = {name: rng.integers(len(values), size=n) for name, values in kinds.items()}
    edits, lost = [], []
    for caption, shape in zip(grammar.captions(rng, attributes, rng.random(n) < 0.5), attributes["shape"], strict=True):
        before, name = words(caption), grammar.SHAPES[shape]
        made = augment(before, 0.1, lambda word: grammar.SYNONYMS.get(word, ()), rng)
        edits.append(_edits(before, made))
        names = {name, *grammar.SYNONYMS.get(name, ())}
        if names & set(before):
            lost.append(not names & set(made))
    assert np.mean(edits) == pytest.approx(1.14, abs=0.08)
    assert np.mean(lost) == pytest.approx(0.1 / 4, abs=0.006)


def test_draws_follow_the_generator() -> None:
    made = [augment(CAPTION, 0.3, _known, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert made[0] == made[1]
    assert made[0] != made[2]
    rng = np.random.default_rng(0)
    assert len({tuple(augment(CAPTION, 0.3, _known, rng)) for _ in range(100)}) > 40
