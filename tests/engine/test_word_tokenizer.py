import random

import open_clip
import torch

from bench.models import factory


def test_tokens_are_those_of_the_whole_text(registries: None) -> None:
    ours = factory.tokenizer("scenes-small")
    whole = open_clip.get_tokenizer("scenes-small")
    draw = random.Random(0)
    letters = "abcXYZ019 '&<>;-_.,!  éß中\n"
    words = ("red", "Square", "19th", "s", "ll", "t", "2020", "antidisestablishmentarianism")
    texts = ["", "a", "  a b", "don't", "a&amp;b", "x" * 300]
    texts += ["".join(draw.choice(letters) for _ in range(draw.randint(0, 60))) for _ in range(300)]
    texts += [" ".join(draw.choice(words) for _ in range(draw.randint(1, 20))) for _ in range(300)]
    assert torch.equal(ours(texts), whole(texts))
    assert ours(texts).dtype == torch.int64


def test_two_bytes_hold_any_token() -> None:
    assert factory.tokenizer("scenes-small").vocab_size == len(open_clip.get_tokenizer("RN50").encoder) < 2**16  # type: ignore[attr-defined]
