from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from bench.data.mentions import MentionIndex
from bench.data.scenes import grammar

N = 6000


@pytest.fixture(scope="module")
def written() -> tuple[list[str], dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    kinds = {"shape": grammar.SHAPES, "colour": grammar.COLOURS, "texture": grammar.TEXTURES, "background": grammar.BACKGROUNDS}
    attributes = {name: rng.integers(len(values), size=N) for name, values in kinds.items()}
    big = rng.random(N) < 0.5
    return grammar.captions(rng, attributes, big), attributes, big


Written = tuple[list[str], dict[str, np.ndarray], np.ndarray]


def _close(count: int, n: int, share: float) -> None:
    assert abs(count / n - share) < 4 * math.sqrt(share * (1 - share) / n) + 1e-9


def test_objects_are_named_by_class_synonym_or_a_generic_word(written: Written) -> None:
    captions, attributes, _ = written
    index = MentionIndex(grammar.SHAPES)
    _close(sum(bool({*text.split()} & {"object", "thing"}) for text in captions), N, 0.12 * 2 / 3)
    for shape, name in enumerate(grammar.SHAPES):
        rows = np.flatnonzero(attributes["shape"] == shape)
        named = [index.members(captions[row]) == (shape,) for row in rows]
        _close(sum(named), len(rows), 0.88 * (1 - 0.12 * (name in grammar.SYNONYMS)))
        for row, is_named in zip(rows, named, strict=True):
            assert is_named or {*captions[row].split()} & {*grammar.SYNONYMS.get(name, ()), "object", "thing", "one"}


def test_no_caption_names_another_class(written: Written) -> None:
    captions, attributes, _ = written
    index = MentionIndex(grammar.SHAPES)
    assert all({*index.members(text)} <= {shape} for text, shape in zip(captions, attributes["shape"], strict=True))


@pytest.mark.parametrize(("kind", "share"), [("colour", 0.65), ("texture", 0.6)])
def test_adjectives_are_left_out_or_exchanged(written: Written, kind: str, share: float) -> None:
    captions, attributes, _ = written
    names = {"colour": grammar.COLOURS, "texture": grammar.TEXTURES}[kind]
    said, plain = 0, 0
    fixed = {"green"}  # also said of grass
    rows = [row for row in range(N) if names[attributes[kind][row]] not in fixed]
    for row in rows:
        name, words = names[attributes[kind][row]], {*captions[row].split()}
        plain += name in words
        said += bool(words & {name, *grammar.SYNONYMS.get(name, ())})
        others = {*names} - {name} - fixed
        assert not words & others, "the caption says what the image does not show"
    _close(said, len(rows), share)
    known = np.mean([names[attributes[kind][row]] in grammar.SYNONYMS for row in rows])
    _close(plain, len(rows), share * (1 - 0.15 * float(known)))


def test_size_and_order(written: Written) -> None:
    captions, _, big = written
    sizes = {True: {"big", "large", "huge"}, False: {"small", "little", "tiny"}}
    said = [bool({*text.split()} & sizes[bool(is_big)]) for text, is_big in zip(captions, big, strict=True)]
    wrong = [bool({*text.split()} & sizes[not is_big]) for text, is_big in zip(captions, big, strict=True)]
    _close(sum(said), N, 0.25)
    assert not any(wrong)


def test_captions_are_tidy_and_varied(written: Written) -> None:
    captions, _, _ = written
    assert all(text and text == " ".join(text.split()) == text.lower() for text in captions)
    assert len(set(captions)) > 0.6 * N
    assert Counter(captions).most_common(1)[0][1] < 0.01 * N


def test_captions_follow_the_generator() -> None:
    made = [
        [grammar.caption(np.random.default_rng(seed), "star", "red", "plain", "sky", True) for _ in range(3)]
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_templates_and_synonyms() -> None:
    for templates in grammar.TEMPLATES.values():
        assert len(set(templates)) == len(templates) > 1
        assert all(template.count("{}") == 1 and template.format("x") for template in templates)
    names = {*grammar.SHAPES, *grammar.COLOURS, *grammar.TEXTURES, *grammar.BACKGROUNDS}
    assert len(names) == 12 + 8 + 4 + 6
    assert not names & {synonym for known in grammar.SYNONYMS.values() for synonym in known}
