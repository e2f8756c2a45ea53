from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.data.eda import augment, words

SYNONYMS = {"big": ("large", "huge"), "red": ("scarlet",), "large": ("vast",), "scarlet": ("crimson",)}
CAPTION = ["a", "big", "red", "circle", "on", "the", "green", "lawn", "today"]


def _known(word: str) -> tuple[str, ...]:
    return SYNONYMS.get(word, ())


def _nothing(word: str) -> tuple[str, ...]:
    return ()


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


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_never_empty_and_only_the_captions_words_and_their_synonyms(rate: float, length: int) -> None:
    rng, caption = np.random.default_rng(0), CAPTION[:length]
    allowed = {*caption, *(synonym for word in caption for synonym in _known(word))}
    for _ in range(300):
        before = list(caption)
        made = augment(caption, rate, _known, rng)
        assert made
        assert set(made) <= allowed
        assert caption == before


def test_an_empty_caption_stays_empty() -> None:
    assert augment([], 0.1, _known, np.random.default_rng(0)) == []


def test_without_synonyms_rate_zero_only_swaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        made = augment(CAPTION, 0.0, _nothing, rng)
        assert sorted(made) == sorted(CAPTION)
        assert sum(a != b for a, b in zip(made, CAPTION, strict=True)) in (0, 2)


def test_rate_one_leaves_one_word_of_any() -> None:
    rng = np.random.default_rng(0)
    left = Counter(augment(CAPTION, 1.0, _nothing, rng)[0] for _ in range(900))
    assert all(len(augment(CAPTION, 1.0, _known, rng)) == 1 for _ in range(50))
    assert set(left) == set(CAPTION)
    assert max(left.values()) < 150


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
def test_deletion_takes_each_word_at_the_rate(rate: float) -> None:
    rng, caption = np.random.default_rng(0), [f"w{number}" for number in range(40)]
    left = Counter(word for _ in range(600) for word in augment(caption, rate, _nothing, rng))
    assert left.total() / (600 * 40) == pytest.approx(1 - rate, abs=0.01)
    assert min(left.values()) / 600 == pytest.approx(1 - rate, abs=0.08)


@pytest.mark.parametrize(("length", "rate", "count"), [(9, 0.1, 1), (3, 0.1, 1), (20, 0.1, 2), (20, 0.25, 5)])
def test_how_many_words_come_in(length: int, rate: float, count: int) -> None:
    """Every word has one synonym of its own: as many are replaced as inserted, whatever is deleted is made up for."""
    caption, rng = [f"w{number}" for number in range(length)], np.random.default_rng(0)
    foreign, total, n = 0, 0, 1500
    for _ in range(n):
        made = augment(caption, rate, lambda word: (f"s{word}",), rng)
        foreign += sum(word.startswith("s") for word in made)
        total += len(made)
    assert foreign / n == pytest.approx(2 * count * (1 - rate), rel=0.06)
    assert total / n == pytest.approx((length + count) * (1 - rate), rel=0.03)


def test_draws_follow_the_generator() -> None:
    made = [augment(CAPTION, 0.3, _known, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert made[0] == made[1]
    assert made[0] != made[2]
    rng = np.random.default_rng(0)
    assert len({tuple(augment(CAPTION, 0.3, _known, rng)) for _ in range(50)}) > 40
