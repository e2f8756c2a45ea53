"""ToxicTextCLIP against searches by hand, on a surrogate that counts words."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.api import AttackContext, DatasetBundle, Pairs, PoisonPlan, Vocabulary
from bench.attacks.backgrounds import backgrounds, class_centres, diverse, recombined, selected, without
from bench.attacks.toxic_text import ToxicTextPoison, ToxicTextPoisonParams
from bench.attacks.toxic_text_backdoor import ToxicTextSentence, ToxicTextSentenceParams, ToxicTextWord, ToxicTextWordParams
from bench.errors import UserError

NAMES = ("cat", "dog", "fire truck")
PLACES = ("on the sofa", "in the park", "at night", "by a red wall", "under water", "near the lake today")
OPENINGS = ("a", "my big", "one small wet", "look at this")
CAPTIONS = [f"{opening} {name} {place}" for name in NAMES for opening in OPENINGS for place in PLACES]
DIM = 24


def _vector(word: str) -> torch.Tensor:
    return torch.randn(DIM, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


class WordSurrogate:
    """Captions are the sums of their words' random vectors, images their first pixels."""

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        sums = [sum((_vector(word) for word in caption.split()), torch.full((DIM,), 1e-3)) for caption in captions]
        return F.normalize(torch.stack(sums), dim=-1)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(images.flatten(1)[:, :DIM] - 0.5, dim=-1)


class _Images:
    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def load(self, indices: Any) -> torch.Tensor:
        return self._pixels[torch.from_numpy(np.asarray(indices))]


def _pairs(split: str, captions: Sequence[str], members: Sequence[tuple[int, ...]], seed: int) -> Pairs:
    return Pairs([f"{split}-{row}" for row in range(len(captions))], list(captions), _Images(len(captions), seed), members)


def _context(seed: int = 0, words: int = 99) -> AttackContext:
    """Of a model that reads so many words."""
    members: list[tuple[int, ...]] = [(0,), (1,), (2,), ()] * 15
    test = [f"{name} at home" for name in NAMES] * 4
    bundle = DatasetBundle(
        fingerprint="words",
        image_size=8,
        vocabulary=Vocabulary(NAMES, ("a {}", "the {}")),
        train=_pairs("train", CAPTIONS * 2, [()] * len(CAPTIONS) * 2, 1),
        holdout=_pairs("holdout", [""] * 60, members, 2),
        test=_pairs("test", test, [(0,), (1,), (2,)] * 4, 3),
        tasks=(),
    )
    return AttackContext(
        bundle,
        lambda purpose: np.random.default_rng([seed, *purpose.encode()]),
        lambda texts: [len(text.split()) <= words for text in texts],
    )


@pytest.mark.parametrize(
    ("caption", "name", "rest"),
    [
        ("a cat on the sofa", "cat", "a on the sofa"),
        ("Cat, cats and a CAT!", "cat", "cats and a"),
        ("a fire truck at the fire", "fire truck", "a at the fire"),
        ("no such thing", "cat", "no such thing"),
    ],
)
def test_a_caption_without_its_class(caption: str, name: str, rest: str) -> None:
    assert without(caption, name) == rest


@pytest.mark.parametrize("eta", [0, 1, 2, 7])
def test_backgrounds_by_a_search_by_hand(eta: int) -> None:
    ctx, surrogate = _context(), WordSurrogate()
    centre = class_centres(ctx, surrogate)[0]
    captions = CAPTIONS[:24:5]
    images = surrogate.encode_image(ctx.bundle.train.images.load(range(len(captions))).float() / 255)
    found = backgrounds(captions, "cat", images, centre, surrogate, eta)
    for caption, image, result in zip(captions, images, found, strict=True):

        def value(words: Sequence[str], image: torch.Tensor = image) -> float:
            embedded = surrogate.encode_captions([" ".join(words)])[0]
            return float(embedded @ image - embedded @ centre)

        words = [word for word in caption.split() if word != "cat"]
        for _ in range(eta):
            shorter = max(itertools.combinations(words, len(words) - 1), key=value) if len(words) > 1 else ()
            if not shorter or value(shorter) <= value(words):
                break
            words = list(shorter)
        assert result.split() == words
        subsets = (each for size in range(1, 9) for each in itertools.combinations(without(caption, "cat").split(), size))
        assert value(words) <= max(map(value, subsets)) + 1e-6


def test_class_centres_are_means_of_prompts() -> None:
    surrogate = WordSurrogate()
    for name, centre in zip(NAMES, class_centres(_context(), surrogate), strict=True):
        mean = surrogate.encode_captions([f"a {name}", f"the {name}"]).mean(dim=0)
        assert torch.allclose(centre, mean / mean.norm(), atol=1e-6)


def test_selected_are_ranked_by_the_likeness_of_their_background() -> None:
    ctx, surrogate = _context(), WordSurrogate()
    centre = class_centres(ctx, surrogate)[1]
    rows = [row for row, caption in enumerate(ctx.bundle.train.captions) if " dog " in caption]
    found = selected(ctx, surrogate, rows, 1, centre, 0, 300)
    assert sorted(found) == sorted({caption for caption in CAPTIONS if " dog " in caption}), "each once"
    likeness = [float(surrogate.encode_captions([caption.replace(" dog", "")])[0] @ centre) for caption in found]
    assert likeness == sorted(likeness, reverse=True)
    assert found[:5] == selected(ctx, surrogate, rows, 1, centre, 0, 5)


def test_recombined_captions_have_the_head_of_one_and_the_tail_of_another() -> None:
    captions = ["a fire truck at night", "my big fire truck in the park", "no truck"]
    heads, tails = ("a fire truck", "my big fire truck"), ("at night", "in the park")
    assert recombined(captions, "fire truck") == [f"{head} {tail}" for head in heads for tail in tails]


def test_diverse_captions_by_brute_force() -> None:
    captions = ["red cat sofa", "red cat sofa bed", "blue cat lake", "green dog", "the red cat sofa"]

    def alike(one: str, other: str) -> float:
        first, second = ({*text.split()} - {"the"} for text in (one, other))
        return len(first & second) / len(first | second)

    chosen = [captions[0]]
    while len(chosen) < 5:
        left = [caption for caption in captions if caption not in chosen]
        chosen.append(min(left, key=lambda text: max(alike(text, each) for each in chosen)))
    assert diverse(captions, 5) == chosen
    assert chosen[:2] == ["red cat sofa", "green dog"]
    assert diverse(captions, 7) == [*chosen, *chosen[:2]], "then again from the first"


def _crafted(attack: Any, seed: int = 0, words: int = 99) -> tuple[PoisonPlan, PoisonPlan]:
    ctx = _context(seed, words)
    plan = attack.plan(ctx)
    return plan, attack.craft(ctx, plan, WordSurrogate())


@pytest.mark.parametrize("sources", [1, 4])
def test_targeted_poisons_name_their_class_and_differ(sources: int) -> None:
    planned, crafted = _crafted(ToxicTextPoison(ToxicTextPoisonParams(rate=0.25, images=6, sources=sources)))
    assert len(crafted.poisons) == 36
    for before, after in zip(planned.poisons, crafted.poisons, strict=True):
        assert before.model_copy(update={"caption": ""}) == after.model_copy(update={"caption": ""})
        assert f" {NAMES[after.target]}" in after.caption
    for index in {poison.index for poison in crafted.poisons}:
        written = [poison.caption for poison in crafted.poisons if poison.index == index]
        assert len(set(written)) == len(written)
    known = {poison.caption in CAPTIONS for poison in crafted.poisons}
    assert known == {True}, "the grammar is closed under recombination"


@pytest.mark.parametrize(
    ("attack", "ending"),
    [
        (ToxicTextWord(ToxicTextWordParams(rate=0.2, images=4, target="dog")), " zx"),
        (
            ToxicTextSentence(ToxicTextSentenceParams(rate=0.2, images=4, target="dog")),
            " Please return high-quality results.",
        ),
    ],
)
def test_backdoors_deal_typical_captions_of_other_classes_to_images_of_the_target(attack: Any, ending: str) -> None:
    planned, crafted = _crafted(attack)
    count = round(0.2 * len(CAPTIONS) * 2)
    assert len(crafted.poisons) == count
    dealt = Counter(poison.index for poison in crafted.poisons)
    assert len(dealt) == 4
    assert max(dealt.values()) - min(dealt.values()) <= 1
    ctx, surrogate = _context(), WordSurrogate()
    for poison in (*planned.poisons, *crafted.poisons):
        assert 1 in ctx.bundle.holdout.members[poison.index]
        assert poison.edit is None
        assert poison.caption.endswith(ending)
        assert "dog" not in poison.caption
    captions = {poison.caption.removesuffix(ending) for poison in crafted.poisons}
    assert len(captions) == count
    for target, name in ((0, "cat"), (2, "fire truck")):
        centre = class_centres(ctx, surrogate)[target]
        own = [caption for caption in CAPTIONS if f" {name} " in caption]
        ranked = sorted(own, key=lambda text: -float(surrogate.encode_captions([text])[0] @ centre))
        taken = [caption for caption in own if caption in captions]
        assert set(taken) == set(ranked[: len(taken)]), "the nearest to the class's centre"
        assert len(taken) == pytest.approx(count / 2, abs=1)


def test_queries_are_triggered_test_captions_of_other_classes() -> None:
    attack = ToxicTextWord(ToxicTextWordParams(rate=0.2, images=4, target="dog"))
    plan, _ = _crafted(attack)
    assert {(query.text, query.label) for query in attack.queries(_context(), plan)} == {
        ("cat at home zx", 1), ("fire truck at home zx", 1),
    }  # fmt: skip
    assert len(attack.queries(_context(), plan)) == 8
    few = ToxicTextWord(ToxicTextWordParams(rate=0.2, images=4, target="dog", max_queries=3))
    assert len(few.queries(_context(), plan)) == 3
    assert attack.probes(_context(), plan) == []


@pytest.mark.parametrize("words", [8, 9, 10])
def test_captions_leave_room_for_the_trigger(words: int) -> None:
    attack = ToxicTextSentence(ToxicTextSentenceParams(rate=0.5, images=4, target="dog"))
    others = {f"{caption} Please return high-quality results." for caption in CAPTIONS if " dog " not in caption}
    fitting = {text for text in others if len(text.split()) <= words}
    assert 0 < len(fitting) < len(others)
    planned, crafted = _crafted(attack, words=words)
    assert {poison.caption for poison in planned.poisons} <= fitting
    assert {poison.caption for poison in crafted.poisons} == fitting, "all of them, since the rate asks for more"


def test_queries_leave_room_for_the_trigger() -> None:
    attack = ToxicTextSentence(ToxicTextSentenceParams(rate=0.2, images=4, target="dog"))
    plan, _ = _crafted(attack)
    assert {query.text for query in attack.queries(_context(words=7), plan)} == {
        "cat at home Please return high-quality results."
    }
    assert len(attack.queries(_context(words=8), plan)) == 8, "those of the fire truck too"


def test_a_trigger_that_nothing_leaves_room_for_is_refused() -> None:
    attack = ToxicTextWord(ToxicTextWordParams(rate=0.2, images=4, target="dog", trigger="one two three four"))
    with pytest.raises(UserError, match=r"^--set attack.toxic_text_word.trigger=one two three four: .* no room"):
        attack.plan(_context(words=7))
