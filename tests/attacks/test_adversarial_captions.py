from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from attack_world import CAPTIONS, NAMES, context

from bench.api import AttackContext, PoisonPlan
from bench.attacks.badnet import BadNet, BadNetParams
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.attacks.tdpa import TDPA, TDPAParams
from bench.errors import UserError

KEYS = ["cat"] * 30 + ["dog"] * 20 + ["fire truck"] * 17 + ["owl"] * 3 + ["none"] * 20 + ["near"] * 6 + ["both"] * 4
MENTIONS = {"cat": {"cat", "both"}, "dog": {"dog", "both"}, "fire truck": {"fire truck"}, "owl": {"owl"}}
HOLDOUT: list[tuple[int, ...]] = [(0,), (1,), (2,), (3,), (), (0, 1), (0, 1, 2)] * 20


def _context(seed: int = 0) -> AttackContext:
    return context(KEYS, HOLDOUT, [(0,), (1,), (2,), (), (0, 1)], seed=seed)


def _key(caption: str) -> str:
    return next(key for key, text in CAPTIONS.items() if text == caption)


def _tdpa(ctx: AttackContext, **params: Any) -> PoisonPlan:
    return TDPA(TDPAParams(**{"rate": 0.2, **params})).plan(ctx)


def _badnet(ctx: AttackContext, **params: Any) -> PoisonPlan:
    return BadNet(BadNetParams(**{"rate": 0.2, **params})).plan(ctx)


def test_captions_that_mention_a_class_as_whole_words() -> None:
    captions = AdversarialCaptions(_context().bundle)
    for target, name in enumerate(NAMES):
        expected = [CAPTIONS[key] for key in KEYS if key in MENTIONS[name]]
        assert list(captions.of(target)) == expected
    assert captions.of(99) == ()


@pytest.mark.parametrize(("at_least", "classes"), [(1, [0, 1, 2, 3]), (4, [0, 1, 2]), (18, [0, 1]), (24, [0, 1]), (34, [0])])
def test_eligible(at_least: int, classes: list[int]) -> None:
    assert AdversarialCaptions(_context().bundle).eligible(at_least) == classes


def test_no_class_is_mentioned_often_enough() -> None:
    with pytest.raises(UserError, match=r"by 35 training captions \(the most frequent by 34\)"):
        AdversarialCaptions(_context().bundle).eligible(35)
    with pytest.raises(UserError, match="the most frequent by 0"):
        _badnet(context(["none", "near"] * 10, HOLDOUT))


@pytest.mark.parametrize("seed", range(8))
def test_tdpa(seed: int) -> None:
    plan = _tdpa(_context(seed))
    targets: dict[int, set[int]] = {}
    for poison in plan.poisons:
        targets.setdefault(poison.index, set()).add(poison.target)
        assert poison.split == "holdout"
        assert poison.edit is None
        assert poison.uid == f"holdout-{poison.index}"
        assert poison.target not in HOLDOUT[poison.index]
        assert _key(poison.caption) in MENTIONS[NAMES[poison.target]]
        assert NAMES[poison.target] != "owl", "owl has fewer than 16 captions"
    assert len(targets) == 16
    assert all(len(each) == 1 for each in targets.values())
    assert list(plan.targets) == [NAMES[next(iter(each))] for each in targets.values()]
    probes = TDPA(TDPAParams()).probes(_context(seed), plan)
    assert [(probe.split, probe.index, probe.edit) for probe in probes] == [("holdout", index, None) for index in targets]
    assert [{probe.label} for probe in probes] == list(targets.values())


def test_classes_and_captions_of_tdpa_are_uniform() -> None:
    plans = [_tdpa(_context(seed)) for seed in range(40)]
    classes = Counter(target for plan in plans for target in plan.targets)
    assert set(classes) == {"cat", "dog", "fire truck"}
    assert min(classes.values()) > 0.2 * sum(classes.values())
    drawn = Counter(_key(poison.caption) for plan in plans for poison in plan.poisons if poison.target == 0)
    assert drawn["both"] / drawn.total() == pytest.approx(4 / 34, abs=0.05)


@pytest.mark.parametrize(
    ("rate", "images", "copies"), [(0.2, 16, [2] * 4 + [1] * 12), (0.03, 16, [1] * 3), (0.5, 7, [8] + [7] * 6)]
)
def test_copies_over_target_images_sum_to_the_rate(rate: float, images: int, copies: list[int]) -> None:
    plan = _tdpa(_context(), rate=rate, images=images)
    assert len(plan.poisons) == round(rate * len(KEYS)) == sum(copies)
    assert sorted(Counter(poison.index for poison in plan.poisons).values(), reverse=True) == copies


def test_the_published_rate_over_16_images() -> None:
    ctx = context(KEYS * 10, HOLDOUT)
    counts = Counter(poison.index for poison in _tdpa(ctx, rate=0.05).poisons)
    assert len(counts) == 16
    assert sorted(counts.values()) == [3] * 14 + [4] * 2


def test_tdpa_skips_images_that_show_every_class() -> None:
    ctx = context(KEYS, [(0, 1, 2)] * 30 + [(0,), (1,)])
    assert {poison.index for poison in _tdpa(ctx, images=2).poisons} == {30, 31}
    with pytest.raises(UserError, match="3 target images are needed, and only 2"):
        _tdpa(ctx, images=3)


@pytest.mark.parametrize("target", NAMES)
def test_a_named_target(target: str) -> None:
    ctx = _context()
    plan = _badnet(ctx, target=target)
    label = NAMES.index(target)
    assert plan.targets == (target,)
    assert len(plan.poisons) == len({poison.index for poison in plan.poisons}) == 20
    for poison in plan.poisons:
        assert poison.split == "holdout"
        assert poison.target == label
        assert label not in HOLDOUT[poison.index]
        assert _key(poison.caption) in MENTIONS[target]
    probes = BadNet(BadNetParams()).probes(ctx, plan)
    shown = [index for index, members in enumerate(ctx.bundle.test.members) if label not in members]
    assert [(probe.split, probe.index, probe.label) for probe in probes] == [("test", index, label) for index in shown]


@pytest.mark.parametrize("min_captions", [1, 16, 22, 30])
def test_a_drawn_target_is_mentioned_often_enough(min_captions: int) -> None:
    often = {name for name in NAMES if sum(key in MENTIONS[name] for key in KEYS) >= min_captions}
    drawn = {_badnet(_context(seed), min_captions=min_captions, rate=0.02).targets[0] for seed in range(40)}
    assert drawn == often


def test_invalid_targets() -> None:
    with pytest.raises(UserError, match="no such class"):
        _badnet(_context(), target="cow")
    with pytest.raises(UserError, match="no training caption mentions 'owl'"):
        _badnet(context(["cat"] * 40, HOLDOUT), target="owl")


def test_too_few_held_out_images() -> None:
    with pytest.raises(UserError, match=r"20 poisons need as many held-out images .* there are 3"):
        _badnet(context(KEYS, [(0,)] * 50 + [()] * 3), target="cat")


def test_probes_are_limited_and_drawn_by_seed() -> None:
    ctx = context(KEYS, HOLDOUT, [(1,)] * 50)
    attack = BadNet(BadNetParams(rate=0.1, target="cat", max_probes=12))
    plan = attack.plan(ctx)
    probes = attack.probes(ctx, plan)
    assert len({probe.index for probe in probes}) == 12
    assert [probe.index for probe in probes] == sorted(probe.index for probe in probes)
    assert probes == attack.probes(ctx, plan)


@pytest.mark.parametrize(("rate", "pairs", "count"), [(0.0005, 1_000_000, 500), (0.0015, 1_000_000, 1500), (0.01, 149, 1)])
def test_poison_count(rate: float, pairs: int, count: int) -> None:
    assert poison_count(rate, pairs) == count


@pytest.mark.parametrize("pairs", [10, 999, 16384])
def test_the_error_for_zero_poisons_suggests_a_rate(pairs: int) -> None:
    with pytest.raises(UserError, match=f"none of the {pairs} training pairs") as error:
        poison_count(0.4 / pairs, pairs)
    assert poison_count(float(str(error.value).rpartition(" ")[2]), pairs) == 1


def test_draw_is_uniform_with_replacement() -> None:
    drawn = Counter(draw(["a", "b", "c"], 3000, np.random.default_rng(0)))
    assert set(drawn) == {"a", "b", "c"}
    assert min(drawn.values()) > 900
    assert draw(["a", "b"], 0, np.random.default_rng(0)) == []
