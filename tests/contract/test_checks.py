"""Contract checks fail for broken plugins, and only for these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bench.api import (
    Batch,
    Encoder,
    EvalContext,
    Evaluator,
    Measurement,
    Metric,
    Phase,
    Plugin,
    PoisonPlan,
    Probe,
    TrainSetup,
    share,
)
from bench.attacks.badnet import BadNet
from bench.attacks.toxic_text_backdoor import ToxicTextSentence
from bench.data.scenes import ScenesDataset
from bench.defenses.clip import CLIP
from bench.defenses.losses import clip_loss
from bench.errors import UserError
from bench.evaluators.zero_shot import ZeroShot
from bench.registry import Entry
from bench.testing import checks, checks_for

from .broken import failed_checks, failures_of


def test_valid_plugins_pass_all_checks() -> None:
    assert failures_of(CLIP) == {}
    assert failures_of(BadNet) == {}
    assert failures_of(ZeroShot) == {}
    assert failures_of(ScenesDataset) == {}


class WithHead(CLIP):
    """CLIP with SLIP's second loss, from features before the projection (Mu et al. 2022)."""

    def __init__(self, params: Any, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self.head = torch.nn.Sequential(torch.nn.Linear(setup.trunk_dim, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))

    def phases(self, epoch: int) -> list[Phase]:
        return [Phase(image_views=("light", "strong", "strong"))]

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        one, other = (F.normalize(self.head(encoder.trunk(view)), dim=-1) for view in batch.images[1:])
        return super().loss(batch, encoder, phase) + clip_loss(one, other, torch.tensor(10.0))


class Retrieval(Evaluator):
    """Text-to-image retrieval among the evaluation pairs (Radford et al. 2021)."""

    metrics = (Metric(name="recall", description="share of captions whose own image is the nearest"),)

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        pairs = ctx.bundle.test
        scores = ctx.model.text_features(pairs.captions) @ ctx.model.image_features(pairs.images).T
        return [share("recall", "pairs", (scores.argmax(dim=1) == torch.arange(len(pairs))).numpy())]


@pytest.mark.parametrize("plugin", [WithHead, Retrieval])
def test_plugins_may_use_features_before_the_projection_and_captions(plugin: type[Plugin]) -> None:
    plugin.name = "new"
    assert failed_checks(Entry(plugin, "built-in test")) == {}


def test_checks_for_a_test_suite(registries: None) -> None:
    found = checks(CLIP)
    assert [check.__name__ for check in found] == [check.name for check in checks_for(Entry(CLIP, "built-in test"))]
    assert "training_follows_the_seed" in {check.__name__ for check in found}
    found[0]()
    unregistered = type("Unregistered", (CLIP,), {"__doc__": ""})
    with pytest.raises(UserError, match=r"^Unregistered is not registered; put a decorator such as @register_defense"):
        checks(unregistered)


@pytest.mark.parametrize(
    ("member", "check"),
    [
        ({"__doc__": ""}, "docstring"),
        ({"__doc__": "A thing. With two sentences (Nobody 2024)."}, "docstring"),
        ({"__doc__": "No source at all."}, "source_is_cited"),
        ({"version": ""}, "version"),
        ({"test_params": classmethod(lambda cls: {"nothing": 1})}, "test_params_are_accepted"),
        ({"supports": classmethod(lambda cls, spec: False)}, "supports"),
    ],
)
def test_common(member: dict[str, Any], check: str) -> None:
    assert check in failures_of(CLIP, **member)


def _plan(change: Callable[[PoisonPlan], PoisonPlan]) -> dict[str, Any]:
    plain = BadNet.plan
    return {"plan": lambda self, ctx: change(plain(self, ctx).model_copy(update={"attack": "broken"}))}


def _each(**changes: Any) -> dict[str, Any]:
    def change(plan: PoisonPlan) -> PoisonPlan:
        return plan.model_copy(update={"poisons": tuple(poison.model_copy(update=changes) for poison in plan.poisons)})

    return _plan(change)


@pytest.mark.parametrize(
    ("member", "check"),
    [
        (_plan(lambda plan: plan.model_copy(update={"targets": (str(torch.rand(())),)})), "plan_follows_the_seed"),
        (_plan(lambda plan: plan.model_copy(update={"poisons": plan.poisons[1:]})), "rate"),
        (_each(uid="nobody"), "poisons"),
        (_each(target=99), "poisons"),
        (_each(caption="nothing of the kind"), "captions"),
        (_each(edit=None), "training_and_evaluation_edit_alike"),
        ({"apply": lambda self, images, edits, plan: images}, "edits_change_pixels"),
        ({"apply": lambda self, images, edits, plan: images.zero_()}, "apply_is_pure"),
        ({"apply": lambda self, images, edits, plan: images.float()}, "apply_is_pure"),
        ({"apply": lambda self, images, edits, plan: images.flip(0)}, "apply_is_pure"),
        ({"probes": lambda self, ctx, plan: []}, "probes"),
        ({"probes": lambda self, ctx, plan: [Probe("test", n, plan.poisons[0].target, {}) for n in range(64)]}, "probes"),
        ({"needs_surrogate": lambda self: True, "craft": lambda self, ctx, plan, m: _less(plan)}, "craft_keeps_the_poisons"),
    ],
)
def test_attacks(member: dict[str, Any], check: str) -> None:
    assert check in failures_of(BadNet, **member)


def test_attacks_on_captions_have_to_be_read() -> None:
    unasked = {"_with_room": lambda self, ctx, captions: [True] * len(captions)}
    assert set(failures_of(ToxicTextSentence, **unasked)) == {"captions_are_read"}
    assert failures_of(ToxicTextSentence) == {}


def _less(plan: PoisonPlan) -> PoisonPlan:
    return plan.model_copy(update={"poisons": plan.poisons[1:]})


def _measured(**changes: Any) -> dict[str, Any]:
    def evaluate(self: Any, ctx: Any) -> list[Measurement]:
        changes_now = {name: value() if callable(value) else value for name, value in changes.items()}
        return [each.model_copy(update=changes_now) for each in ZeroShot.evaluate(self, ctx)]

    return {"evaluate": evaluate}


@pytest.mark.parametrize(
    ("member", "check"),
    [
        (_measured(metric="other"), "metrics"),
        (_measured(n=0), "measurements"),
        (_measured(value=2.0, ci_high=2.0), "measurements"),
        (_measured(ci_low=0.99, ci_high=1.0), "measurements"),
        (_measured(task="same"), "measurements"),
        (_measured(value=lambda: float(torch.rand(()))), "evaluation_follows_the_seed"),
        ({"evaluate": lambda self, ctx: ctx.clean_model()}, "needs_only_what_it_declares"),
    ],
)
def test_evaluators(member: dict[str, Any], check: str) -> None:
    assert check in failures_of(ZeroShot, **member)


def _opened(**changes: Any) -> dict[str, Any]:
    plain = ScenesDataset.open

    def open_(self: Any, params: Any, side: int, place: Any) -> Any:
        bundle = plain(self, params, side, place)
        return replace(bundle, **{name: value(bundle) for name, value in changes.items()})

    return {"open": open_}


@pytest.mark.parametrize(
    ("member", "check"),
    [
        (_opened(fingerprint=lambda bundle: "always the same"), "fingerprint"),
        (_opened(fingerprint=lambda bundle: str(torch.rand(()))), "opening_twice_is_equal"),
        (_opened(test=lambda bundle: bundle.holdout), "pairs"),
        (_opened(image_size=lambda bundle: 7), "images"),
        (_opened(tasks=lambda bundle: ()), "tasks"),
    ],
)
def test_datasets(member: dict[str, Any], check: str) -> None:
    assert check in failures_of(ScenesDataset, **member)
