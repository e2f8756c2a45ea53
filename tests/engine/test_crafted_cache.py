"""What was crafted is found again by what it depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.api import AttackContext, PoisonPlan, Surrogate
from bench.attacks.adaptive_split import AdaptiveSplit
from bench.matrix.crafted import crafted
from bench.models.frozen import FrozenSurrogate
from bench.testing import small

CRAFTED: list[int] = []


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    CRAFTED.clear()
    craft = AdaptiveSplit.craft

    def counting(self: AdaptiveSplit, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        CRAFTED.append(1)
        return craft(self, ctx, plan, surrogate)

    monkeypatch.setattr(AdaptiveSplit, "craft", counting)


def _crafted(cache: Path | None, seed: int = 0, weights: int = 1) -> PoisonPlan:
    attack, ctx = AdaptiveSplit(AdaptiveSplit.Params(rate=0.04, min_captions=1)), small.attack_context(seed)
    surrogate = FrozenSurrogate(small.encoder(weights), small.tokenize)
    return crafted(attack, ctx, attack.plan(ctx), surrogate, ("poison", seed), cache)


def test_a_plan_is_crafted_once_for_a_poison_and_a_model(tmp_path: Path) -> None:
    plan = _crafted(tmp_path)
    again = _crafted(tmp_path)
    assert len(CRAFTED) == 1
    assert plan.hash() == again.hash()
    assert plan.poisons == again.poisons
    assert all(torch.equal(plan.tensors[name], again.tensors[name]) for name in plan.tensors)
    others = [_crafted(tmp_path, seed=1), _crafted(tmp_path, weights=2)]
    assert len(CRAFTED) == 3
    assert len({each.hash() for each in (plan, *others)}) == 3
    assert _crafted(None).hash() == plan.hash(), "as without a cache"
    assert len(CRAFTED) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    plan = _crafted(tmp_path)
    (file,) = (tmp_path / "crafted").iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    assert _crafted(tmp_path).hash() == plan.hash()
    assert len(CRAFTED) == 2


def test_the_digest_of_a_surrogate_is_of_its_weights() -> None:
    digests = [FrozenSurrogate(small.encoder(seed), small.tokenize).digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_what_was_planned_decides_the_order_of_training_whatever_was_crafted() -> None:
    attack, ctx = AdaptiveSplit(AdaptiveSplit.Params(rate=0.04, min_captions=1)), small.attack_context()
    plan = attack.plan(ctx)
    made = attack.craft(ctx, plan, small.surrogate())
    assert made.chosen() != plan.chosen(), "captions are part of the choice"
    assert made.model_copy(update={"planned": plan.chosen()}).chosen() == plan.chosen()
