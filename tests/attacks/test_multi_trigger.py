from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from attack_world import NAMES, context, random_images

from bench.api import AttackContext, PoisonPlan
from bench.attacks.adaptive import AdaptiveUnimodal, Interpolation, InterpolationParams
from bench.attacks.badnet import BadNet, BadNetParams
from bench.attacks.blended import Blended, BlendedParams
from bench.attacks.multi_trigger import HTBA, MultiTrigger, MultiTriggerParams, PBAAllToAll, PBAAllToOne
from bench.attacks.wanet import WaNet, WaNetParams

KEYS = ["cat", "dog", "fire truck", "owl"] * 25
HOLDOUT: list[tuple[int, ...]] = [(0,), (1,), (2,), (3,), ()] * 30
ALL = "wanet,blended,badnet"


def _context() -> AttackContext:
    return context(KEYS, HOLDOUT, [(0,), (1,), (), (2, 3)], side=16)


def _planned(kind: type[MultiTrigger], **params: Any) -> tuple[MultiTrigger, PoisonPlan]:
    attack = kind(MultiTriggerParams(**{"rate": 0.11, "target": "dog", **params}))
    return attack, attack.plan(_context())


@pytest.mark.parametrize(
    ("kind", "groups", "targets"),
    [(HTBA, {ALL: 11}, 1), (PBAAllToOne, {"wanet": 4, "blended": 4, "badnet": 3}, 1)],
)
def test_one_target_and_the_total_rate(kind: type[MultiTrigger], groups: dict[str, int], targets: int) -> None:
    _, plan = _planned(kind)
    assert Counter(str((poison.edit or {})["triggers"]) for poison in plan.poisons) == groups
    assert plan.targets == ("dog",)
    assert len({poison.index for poison in plan.poisons}) == 11, "the groups are disjoint"
    assert all(1 not in HOLDOUT[poison.index] for poison in plan.poisons)


def test_all_to_all_has_a_target_for_each_trigger() -> None:
    _, plan = _planned(PBAAllToAll)
    pairs = Counter((str((poison.edit or {})["triggers"]), poison.target) for poison in plan.poisons)
    assert sorted(pairs.values()) == [3, 4, 4]
    assert len({target for _, target in pairs}) == len({name for name, _ in pairs}) == 3
    assert ("wanet", NAMES.index("dog")) in pairs
    aimed = {target for _, target in pairs}
    assert all(not aimed & {*HOLDOUT[poison.index]} for poison in plan.poisons)


@pytest.mark.parametrize("kind", [HTBA, PBAAllToOne, PBAAllToAll])
def test_pixels_are_those_of_the_single_triggers_in_turn(kind: type[MultiTrigger]) -> None:
    attack, plan = _planned(kind)
    edits = [poison.edit or {} for poison in plan.poisons]
    images = random_images(len(edits), 16)
    edited = attack.apply(images, edits, plan)
    singles = {"wanet": WaNet(WaNetParams()), "blended": Blended(BlendedParams()), "badnet": BadNet(BadNetParams())}
    for row, edit in enumerate(edits):
        expected = images[row : row + 1]
        for name, single in singles.items():
            if name in str(edit["triggers"]).split(","):
                tensors = {key.partition(".")[2]: t for key, t in plan.tensors.items() if key.startswith(name)}
                own = {key.partition(".")[2]: value for key, value in edit.items() if key.startswith(f"{name}.")}
                expected = single.apply(expected, [own], plan.model_copy(update={"tensors": tensors}))
        assert torch.equal(edited[row], expected[0])


@pytest.mark.parametrize(("kind", "groups"), [(HTBA, {"wanet+blended+badnet"}), (PBAAllToOne, {"wanet", "blended", "badnet"})])
def test_probes_of_each_group(kind: type[MultiTrigger], groups: set[str]) -> None:
    attack, plan = _planned(kind)
    probes = attack.probes(_context(), plan)
    assert {probe.group for probe in probes} == groups
    for group in groups:
        own = [probe for probe in probes if probe.group == group]
        assert [probe.index for probe in own] == [0, 2, 3]
        assert {probe.label for probe in own} == {1}
        assert {str((probe.edit or {})["triggers"]) for probe in own} == {group.replace("+", ",")}


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_images_of_adaptive_unimodal_match_their_captions(rate: float) -> None:
    attack = AdaptiveUnimodal(BadNetParams(rate=rate, target="dog"))
    plan = attack.plan(_context())
    assert len(plan.poisons) == round(rate * len(KEYS))
    assert all(1 in HOLDOUT[poison.index] and "DOG" in poison.caption for poison in plan.poisons)
    assert all(probe.index != 1 for probe in attack.probes(_context(), plan))


def test_interpolations_go_from_the_class_to_the_victim() -> None:
    attack, ctx = Interpolation(InterpolationParams(rate=0.2, images=4, nearest=0.2)), _context()
    plan = attack.plan(ctx)
    victims: dict[int, list[float]] = {}
    for poison in plan.poisons:
        victims.setdefault(poison.index, []).append(float((poison.edit or {"share": 1.0})["share"]))
    assert list(victims.values()) == [pytest.approx(np.linspace(0.2, 1, 5), abs=1e-6)] * 4
    rows = np.array([poison.index for poison in plan.poisons])
    images = ctx.bundle.holdout.images.load(rows)
    edits = [poison.edit or {"start": row, "share": 1.0} for row, poison in enumerate(plan.poisons)]
    edited = attack.apply(images, edits, plan)
    every = ctx.bundle.holdout.images.load(np.arange(len(HOLDOUT)))
    for row, poison in enumerate(plan.poisons):
        start, share = plan.tensors["starts"][row], float(edits[row]["share"])
        (source,) = [index for index in range(len(HOLDOUT)) if torch.equal(every[index], start)]
        assert poison.target in HOLDOUT[source]
        exact = share * images[row].double() + (1 - share) * start.double()
        assert (edited[row] - exact).abs().max() <= 0.5 + 1e-3
        assert share < 1 or torch.equal(edited[row], images[row])
