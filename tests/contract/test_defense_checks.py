"""Contract checks of defenses fail for broken defenses, and for any that looks for the poison."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import (
    Batch,
    Encoder,
    Limit,
    Meaning,
    Phase,
    PoisonPlan,
    Scorer,
)
from bench.data.captions import PoisonedCaptions
from bench.data.poisoned import PoisonedPairs
from bench.defenses.clip import CLIP

from .broken import failures_of


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


def _head_of(width: str) -> dict[str, Any]:
    """A defense with a head on the trunk whose input has the width `width` of the setup."""

    def hold(self: Any, params: Any, setup: Any) -> None:
        CLIP.__init__(self, params, setup)
        self.head = torch.nn.Linear(getattr(setup, width), 4)

    def loss(self: Any, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return CLIP.loss(self, batch, encoder, phase) + self.head(encoder.trunk(batch.images[0])).square().mean()

    return {"__init__": hold, "loss": loss}


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
    assert check in failures_of(CLIP, **member)


def test_a_head_on_the_trunk_has_the_width_of_the_trunk() -> None:
    assert failures_of(CLIP, **_head_of("trunk_dim")) == {}
    assert "shapes cannot be multiplied" in failures_of(CLIP, **_head_of("embed_dim"))["training"]


def test_a_parameter_that_is_not_optimised_stops_training() -> None:
    failures = failures_of(CLIP, **_loss(lambda self, batch, loss: loss + torch.zeros((), requires_grad=True)))
    assert failures["training"] == "stops at a gradient that reaches what is not optimised, see below"
    assert "a tensor of shape (), which is not optimised" in failures["what_has_gradient_is_optimised"]


def test_a_selection_may_draw_from_any_generator() -> None:
    drawing = _selecting(lambda self, scorer: setattr(self, "weight", random.random()))
    failures = failures_of(CLIP, **drawing, **_loss(lambda self, batch, loss: loss * (1 + self.weight)))
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
        lambda: np.flatnonzero(_found(PoisonedPairs)._poison_of >= 0),
        lambda: np.flatnonzero(_found(PoisonedCaptions)._poison_of >= 0),
        _marks_by_plan,
    ],
    ids=["mask", "mask without the attribute", "rows", "rows of captions", "plan"],
)
def test_a_defense_that_looks_for_the_poison_is_detected(peek: Callable[[], np.ndarray]) -> None:
    def look(self: Any, epoch: int) -> tuple[Phase]:
        self.known = torch.from_numpy(peek())
        return (Phase(),)

    def cheat(self: Any, batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        return loss * (1 + torch.isin(batch.indices, self.known).float().mean())

    failures = failures_of(CLIP, phases=look, **_loss(cheat))
    failures.pop("interruption_changes_nothing", None)  # what other tests left may be found after the interruption
    assert set(failures) == {"never_sees_the_poison"}
    assert "must not know" in failures["never_sees_the_poison"]
