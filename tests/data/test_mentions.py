import random
import re

import pytest

from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet


def brute_force(names: list[str], caption: str) -> tuple[int, ...]:
    """One regular expression a class."""
    found = []
    for index, name in enumerate(names):
        words = [re.escape(word) for word in re.split(r"[\W_]+", name) if word]
        pattern = r"(?<![^\W_])" + r"[\W_]+".join(words) + r"(?![^\W_])"
        if words and re.search(pattern, caption, re.IGNORECASE):
            found.append(index)
    return tuple(found)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A GOLDFISH.", {"goldfish"}),
        ("goldfishes and goldfish2", set()),
        ("my_goldfish_photo", {"goldfish"}),
        ("ring tailed  lemur", {"ring-tailed lemur"}),
        ("Ring-Tailed\nLemur", {"ring-tailed lemur"}),
        ("ring-tailed lemurs", set()),
        ("a fire truck", {"fire truck"}),
        ("fire", set()),
        ("a t-shirt", {"T-shirt"}),
        ("the potter's wheel", {"potter's wheel"}),
        ("", set()),
        ("lemon", {"lemon"}),
        ("eins\u00a0lemon\u2014zwei", {"lemon"}),
        ("l\u00e9mon", set()),
    ],
)
def test_examples(caption: str, expected: set[str]) -> None:
    names = imagenet().names
    assert {names[index] for index in MentionIndex(names).members(caption)} == expected


def test_against_one_regular_expression_a_class() -> None:
    rng = random.Random(0)
    names = ["fox", "red fox", "fox terrier", "red fox terrier", "kit-fox", "T-shirt", "fox", "...", "St. Bernard"]
    pieces = ["red", "fox", "Fox", "terrier", "kit", "t", "shirt", "st", "bernard", "foxes", "x"]
    index = MentionIndex(names)
    hits = 0
    for _ in range(3000):
        caption = "".join(rng.choice(pieces) + rng.choice([" ", "-", "_", ", ", ""]) for _ in range(rng.randint(0, 6)))
        assert index.members(caption) == brute_force(names, caption), caption
        hits += bool(index.members(caption))
    assert hits > 500


def test_imagenet_against_regular_expressions() -> None:
    rng = random.Random(1)
    names = list(imagenet().names)
    index = MentionIndex(names)
    for _ in range(20):
        caption = " and ".join(rng.sample(names, 3))
        assert index.members(caption) == brute_force(names, caption)


def test_no_mention_spans_two_captions() -> None:
    index = MentionIndex(["lemon", "fire truck", "banana"])
    assert index.members("a banana", "one lemon") == (0, 2)
    assert index.members("a fire", "truck") == ()
    assert index.members() == ()


def test_imagenet_vocabulary() -> None:
    vocabulary = imagenet()
    assert len(vocabulary.names) == 1000
    assert len(vocabulary.templates) == 80
    assert vocabulary.names[1] == "goldfish"
    assert vocabulary.names[954] == "banana"
    assert all(template.count("{}") == 1 for template in vocabulary.templates)
    assert "a bad photo of a goldfish." in vocabulary.prompts()[1]
