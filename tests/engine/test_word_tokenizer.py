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
    texts += ["".join(chr(draw.randrange(256)) for _ in range(draw.randint(1, 60))) for _ in range(300)]
    texts += ["".join(chr(draw.randint(32, 126)) for _ in range(draw.randint(1, 200))) for _ in range(300)]
    texts += ["<start_of_text>a<END_OF_TEXT>'S", "\x1b[31mred\x1b[0m", "a\tb\x1fc", "\u2028d", "&lt;e", "&ampf"]
    for length in (3, 16, 77):
        assert torch.equal(ours(texts, length), whole(texts, length))
    assert ours([]).shape == (0, ours([""]).shape[1])
    assert ours(texts).dtype == torch.int64


def test_two_bytes_hold_any_token() -> None:
    assert factory.tokenizer("scenes-small").vocab_size == len(open_clip.get_tokenizer("RN50").encoder) < 2**16  # type: ignore[attr-defined]
