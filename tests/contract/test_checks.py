"""The checks find what they are for."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.api import (
    Batch,
    Encoder,
    EvalContext,
    Evaluator,
    Limit,
    Meaning,
    Measurement,
    Metric,
    Phase,
    Plugin,
    PoisonPlan,
    Probe,
    Scorer,
    TrainSetup,
    share,
)
from bench.attacks.badnet import BadNet
from bench.data.captions import PoisonedCaptions
from bench.data.poisoned import PoisonedPairs
from bench.data.scenes import ScenesDataset
from bench.defenses.clip import CLIP
from bench.defenses.losses import clip_loss
from bench.errors import UserError
from bench.evaluators.zero_shot import ZeroShot
from bench.registry import Entry
from bench.testing import checks, checks_for


def _broken(base: type[Plugin], **members: Any) -> dict[str, str]:
    """Failed checks of a plugin with some members replaced, by name."""
    doc = {"__doc__": "A plugin that is broken (Nobody 2024).", "__module__": __name__}
    plugin = type("Broken", (base,), {**doc, **members})
    plugin.name = "broken"  # type: ignore[attr-defined]
    return _failures(Entry(plugin, "built-in test"))


def _failures(entry: Entry) -> dict[str, str]:
    failures = {}
    for check in checks_for(entry):
        try:
            check.run()
        except Exception as error:
            failures[check.name] = str(error)
    return failures


def test_a_whole_plugin_fails_nothing() -> None:
    assert _broken(CLIP) == {}
    assert _broken(BadNet) == {}
    assert _broken(ZeroShot) == {}
    assert _broken(ScenesDataset) == {}


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
    assert _failures(Entry(plugin, "built-in test")) == {}


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
    assert check in _broken(CLIP, **member)


def _loss(answer: Callable[[Any, Batch, torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    plain = CLIP.loss

    def loss(self: Any, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return answer(self, batch, plain(self, batch, encoder, phase))

    return {"loss": loss}


def _count(self: Any, batch: Batch, loss: torch.Tensor) -> torch.Tensor:
    self.steps = getattr(self, "steps", 0) + 1
    return loss * self.steps


def _hold(self: Any, params: Any, setup: Any) -> None:
    CLIP.__init__(self, params, setup)
    self.own = torch.nn.Parameter(torch.ones(()))


def _hold_late(self: Any, epoch: int, scorer: Scorer) -> None:
    self.own = torch.nn.Parameter(torch.ones(()))


def _selecting(select: Callable[[Any, Scorer], None]) -> dict[str, Any]:
    return {"selects_with": classmethod(lambda cls, params: "undefended"), "select": select}


def _weigh(self: Any, scorer: Scorer) -> None:
    self.weight = float(scorer.similarities().std())


def _limits(*limits: Limit) -> Any:
    return classmethod(lambda cls, params: limits)


def _tally(self: Any) -> dict[str, float]:
    self.epochs = getattr(self, "epochs", 0) + 1
    return {"epochs": self.epochs}


@pytest.mark.parametrize(
    ("member", "check"),
    [
        (_loss(lambda self, batch, loss: loss.detach()), "training"),
        (_loss(lambda self, batch, loss: loss * float("nan")), "training"),
        (_loss(lambda self, batch, loss: loss[None]), "training"),
        ({"__init__": _hold, **_loss(lambda self, batch, loss: loss.detach() + self.own)}, "training"),
        (_loss(lambda self, batch, loss: loss + torch.zeros((), requires_grad=True)), "what_has_gradient_is_optimised"),
        ({"before_epoch": _hold_late, **_loss(lambda self, _, loss: loss + self.own)}, "what_has_gradient_is_optimised"),
        (_loss(lambda self, batch, loss: loss * (1 + random.SystemRandom().random())), "training_follows_the_seed"),
        (_loss(_count), "interruption_changes_nothing"),
        ({"phases": lambda self, epoch: (Phase(indices=np.array([0, 10_000])),)}, "training"),
        ({"phases": lambda self, epoch: (Phase(indices=np.array([5, 5])),)}, "training"),
        ({"phases": lambda self, epoch: ()}, "training"),
        ({"telemetry": lambda self: {"loss": 0.0}}, "telemetry"),
        ({"telemetry": _tally}, "interruption_changes_nothing"),
        ({"limits": _limits(Limit("share", "last", "", "", low=0.1))}, "limits"),
        ({"meaning": classmethod(lambda cls, params: Meaning(safe_share="share"))}, "meaning"),
        ({"limits": _limits(Limit("share", "last", "", "")), "telemetry": lambda self: {"share": 1.0}}, "limits"),
        ({"observed": lambda self: {"safe": np.ones(3, dtype=bool)}}, "telemetry"),
        ({"scores": lambda self: np.zeros(3, dtype=np.float32)}, "scores"),
        ({"scores": lambda self: np.zeros(self.setup.pairs)}, "scores"),
        ({"scores": lambda self: np.full(self.setup.pairs, np.nan, dtype=np.float32)}, "scores"),
        ({"scores": lambda self: np.full(self.setup.pairs, np.inf, dtype=np.float32)}, "scores"),
        ({"before_epoch": lambda self, epoch, scorer: self.setup.labels(np.arange(9))}, "training"),
        ({"state_dict": lambda self: {"rng": np.random.default_rng(0)}}, "state_can_be_saved"),
        ({"phases": lambda self, epoch: (Phase(indices=self.setup.trusted(200)),)}, "training"),
        ({"starts_from": classmethod(lambda cls: "nothing")}, "start"),
        ({"selects_with": classmethod(lambda cls, params: "nothing")}, "start"),
        ({"starts_from": classmethod(lambda cls: "clip"), **_selecting(lambda self, scorer: None)}, "start"),
        ({**_selecting(_weigh), **_loss(lambda self, batch, loss: loss * self.weight)}, "interruption_changes_nothing"),
        (_selecting(lambda self, scorer: self.setup.labels(np.arange(9))), "training"),
    ],
)
def test_defenses(member: dict[str, Any], check: str) -> None:
    assert check in _broken(CLIP, **member)


def test_a_selection_may_draw_from_any_generator() -> None:
    drawing = _selecting(lambda self, scorer: setattr(self, "weight", random.random()))
    failures = _broken(CLIP, **drawing, **_loss(lambda self, batch, loss: loss * (1 + self.weight)))
    assert set(failures) == {"interruption_changes_nothing"}


def _found(kind: type) -> Any:
    return next(each for each in gc.get_objects() if isinstance(each, kind))


def _marks_by_plan() -> np.ndarray:
    return np.array([poison.index for poison in _found(PoisonPlan).poisons if poison.split == "train"])


@pytest.mark.parametrize(
    "peek",
    [
        lambda: np.flatnonzero(_found(PoisonedPairs).poisoned),
        lambda: np.flatnonzero(vars(_found(PoisonedPairs))["poisoned"]),
        lambda: np.flatnonzero(_found(PoisonedPairs)._row >= 0),
        lambda: np.flatnonzero(_found(PoisonedCaptions)._row >= 0),
        _marks_by_plan,
    ],
    ids=["mask", "mask without the attribute", "rows", "rows of captions", "plan"],
)
def test_a_defense_that_looks_for_the_poison_is_caught(peek: Callable[[], np.ndarray]) -> None:
    def look(self: Any, epoch: int) -> tuple[Phase]:
        self.known = torch.from_numpy(peek())
        return (Phase(),)

    def cheat(self: Any, batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        return loss * (1 + torch.isin(batch.indices, self.known).float().mean())

    failures = _broken(CLIP, phases=look, **_loss(cheat))
    assert set(failures) == {"never_sees_the_poison"}
    assert "must not know" in failures["never_sees_the_poison"]


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
    assert check in _broken(BadNet, **member)


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
    assert check in _broken(ZeroShot, **member)


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
    assert check in _broken(ScenesDataset, **member)
