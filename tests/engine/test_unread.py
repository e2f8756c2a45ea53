"""What of a text a model reads, and poison that it does not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch

from bench.api import Attack, AttackContext, AttackParams, Poison, PoisonPlan, Probe, Query, Vocabulary
from bench.errors import UserError
from bench.matrix.unread import late_targets, require_read
from bench.models import factory
from bench.models.context import reads

from .small import small_matrix

WORDS = ("red", "Square", "19th", "2020", "antidisestablishmentarianism", "high-quality", "results.", "zx")
LONG = "a very very big and very very bright and very very red"
"""Twelve words of a token each: two more fill the context of `scenes-small` between its start and end tokens."""


def test_a_text_is_read_whose_tokens_fit_between_start_and_end() -> None:
    draw = random.Random(0)
    texts = ["", *(" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 12))) for _ in range(300))]
    encode = open_clip.get_tokenizer("RN50").encode  # type: ignore[attr-defined]
    expected = [len(encode(text)) <= 14 for text in texts]
    assert 30 < sum(expected) < 270
    assert reads(factory.tokenizer("scenes-small"), texts) == expected
    assert all(reads(factory.tokenizer("RN50"), texts))
    assert reads(factory.tokenizer("RN50"), []) == []


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("ends", [True, False])
def test_other_tokenizers_pad_and_end_as_they_like(pad: int, ends: bool) -> None:
    def tokenize(texts: Sequence[str], context_length: int | None = None) -> torch.Tensor:
        length = context_length or 5
        rows = [[10 + len(word) for word in text.split()] for text in texts]
        rows = [[*row[: length - 1], 1] if ends else row[:length] for row in rows]
        return torch.tensor([row + [pad] * (length - len(row)) for row in rows])

    texts = ["a b c d", "a b c d e", "a b c d e f", "", "a b c d a b c d a b c d", "a a a a"]
    most = 4 if ends else 5
    assert reads(tokenize, texts) == [len(text.split()) <= most for text in texts]


class Said(Attack):
    """Poisons and queries of given texts; the target is the fire truck."""

    name = "said"

    def __init__(self, captions: Sequence[str], asked: Sequence[str] = ()) -> None:
        super().__init__(AttackParams(rate=0.5))
        self._captions = captions
        self._asked = asked

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        poisons = (
            Poison(split="holdout", index=row, uid="u", caption=text, target=0) for row, text in enumerate(self._captions)
        )
        return PoisonPlan(attack=self.name, targets=("fire truck",), poisons=tuple(poisons))

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        return []

    def queries(self, ctx: AttackContext, plan: PoisonPlan) -> list[Query]:
        return [Query(text, 0) for text in self._asked]


class OnCaptions(Said):
    on_captions = True


@pytest.fixture(scope="module")
def ctx() -> AttackContext:
    bundle = small_matrix(attacks=["none"]).workspace.bundle
    tokenize = factory.tokenizer("scenes-small")
    vocabulary = Vocabulary(("fire truck", "cat"), ("{}",))
    return AttackContext(
        replace(bundle, vocabulary=vocabulary), lambda _: np.random.default_rng(0), lambda texts: reads(tokenize, texts)
    )


@pytest.mark.parametrize(
    ("captions", "asked"), [([f"{LONG} cat zx", f"{LONG} big cat zx"], []), (["cat zx"], [f"{LONG} big cat zx"])]
)
def test_a_cut_trigger_is_refused(ctx: AttackContext, captions: list[str], asked: list[str]) -> None:
    attack, harmless = OnCaptions(captions, asked), Said(captions, asked)
    with pytest.raises(UserError, match=rf"^said: scenes-small reads 16 tokens, and 1 of 2 trig.* as '{LONG} big cat zx'"):
        require_read(attack, attack.plan(ctx), ctx, "scenes-small")
    require_read(harmless, harmless.plan(ctx), ctx, "scenes-small")
    whole = OnCaptions(captions[:1], [f"{LONG} cat zx"])
    require_read(whole, whole.plan(ctx), ctx, "scenes-small")


def test_a_target_that_is_named_too_late_is_told(ctx: AttackContext) -> None:
    read = [f"{LONG} fire truck", f"{LONG} fire truck at night", f"a fire truck, {LONG} big fire truck"]
    late = [f"{LONG} big fire truck", f"a cat, {LONG} fire truck at night"]
    attack = Said([*read, *late])
    (line,) = late_targets(attack, attack.plan(ctx), ctx, "scenes-small")
    assert line.startswith("said: scenes-small reads 16 tokens, and 2 of 5 captions name their target only after these")
    for silent in (Said(read), OnCaptions([*read, *late])):
        assert late_targets(silent, silent.plan(ctx), ctx, "scenes-small") == []
