"""Contract checks of defenses."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.api import Defense
from bench.registry import Entry, defenses
from bench.testing import small
from bench.testing.training import TrainingFixture, TrainingResult, train
from bench.training.gradients import NotOptimised

_INTERRUPT_EVERY = 3
"""Steps between two interruptions."""
_CURVES = {"epoch", "steps", "loss", "pairs", "seconds", "pairs_per_second", "lr", "logit_scale", "clip_steps", "clip_pairs"}
_OBSERVED = {
    "safe": torch.bool,
    "similarity": torch.float32,
    "image_neighbour": torch.int64,
    "text_neighbour": torch.int64,
    "reference": torch.int64,
}


@cache
def _attempt(entry: Entry[Defense]) -> TrainingResult | Exception:
    try:
        return train(entry)
    except Exception as error:
        return error


def _plain(entry: Entry[Defense]) -> TrainingResult:
    result = _attempt(entry)
    assert isinstance(result, TrainingResult), "cannot be checked because training fails"
    return result


def check_training(entry: Entry[Defense]) -> None:
    result = _attempt(entry)
    assert not isinstance(result, NotOptimised), "stops at a gradient that reaches what is not optimised, see below"
    if isinstance(result, Exception):
        raise result
    unreached = ", ".join(sorted(result.spy.unreached))
    assert not unreached, f"the loss has no gradient in the encoder in the phases: {unreached}"
    start = small.encoder().state_dict()
    assert any(not torch.equal(result.weights[name], start[name]) for name in start), "training changes no weight"


def check_what_has_gradient_is_optimised(entry: Entry[Defense]) -> None:
    result = _attempt(entry)
    assert not isinstance(result, NotOptimised), str(result)


def check_telemetry(entry: Entry[Defense]) -> None:
    spy = _plain(entry).spy
    for telemetry in spy.telemetries:
        taken = sorted(set(telemetry) & _CURVES)
        assert not taken, f"telemetry() uses names that are reserved for the trainer's curves: {', '.join(taken)}"
        for name, value in telemetry.items():
            assert isinstance(value, int | float), f"telemetry() returns {name} as a {type(value).__name__}, not a number"
    for observed in spy.observations:
        for name, values in observed.items():
            assert name in _OBSERVED, f"observed() returns '{name}'; it may return {' and '.join(_OBSERVED)}"
            wanted = (_OBSERVED[name], (spy.defense.setup.pairs,))
            found = (torch.as_tensor(values).dtype, tuple(values.shape))
            assert found == wanted, f"observed() returns '{name}' as {found}, not as {wanted}"


def check_scores(entry: Entry[Defense]) -> None:
    defense = _plain(entry).spy.defense
    scores = defense.scores()
    if scores is None:
        return
    found, wanted = (str(scores.dtype), scores.shape), ("float32", (defense.setup.pairs,))
    assert found == wanted, f"scores() gives {found}, not {wanted}"
    assert not np.isnan(scores).all(), "scores() scores no pair; give None if the defense does not score pairs"
    assert not np.isinf(scores).any(), "scores() has infinite values; give NaN for a pair that was not scored"


def check_limits(entry: Entry[Defense]) -> None:
    names = {name for telemetry in _plain(entry).spy.telemetries for name in telemetry}
    for limit in entry.plugin.limits(small.params_of(entry)):
        assert limit.figure in names, f"limits() names '{limit.figure}', which telemetry() does not return within four epochs"
        bounded = limit.low is not None or limit.high is not None
        assert bounded, f"limits() sets neither a lower nor an upper bound for '{limit.figure}'"


def check_meaning(entry: Entry[Defense]) -> None:
    names = {name for telemetry in _plain(entry).spy.telemetries for name in telemetry}
    meaning = entry.plugin.meaning(small.params_of(entry))
    named = {meaning.safe_share, meaning.safe_cut, *(meaning.mixture.model_dump().values() if meaning.mixture else ())} - {""}
    unknown = ", ".join(sorted(named - names))
    assert not unknown, f"meaning() names numbers that telemetry() does not return within four epochs: {unknown}"


def check_training_follows_the_seed(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    _assert_same(plain, train(entry, global_seed=1), "two runs with the same seed differ; draw from setup.rng(purpose)")


def check_state_can_be_saved(entry: Entry[Defense]) -> None:
    state = _plain(entry).spy.defense.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        loaded = torch.load(buffer, weights_only=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise AssertionError(f"state_dict() may only contain tensors, numbers, strings, lists and dicts: {reason}") from error
    fresh = TrainingFixture(entry).defense()
    fresh.load_state_dict(loaded)
    assert _same(fresh.state_dict(), state), "state_dict() after load_state_dict() differs from the loaded state"


def check_interruption_changes_nothing(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    _assert_same(
        plain,
        train(entry, interrupt_every=_INTERRUPT_EVERY),
        "an interrupted run continues with different numbers; store everything it needs in state_dict()",
    )


def check_start(entry: Entry[Defense]) -> None:
    start = entry.plugin.starts_from()
    assert start != entry.plugin.name, "starts_from() names the defense itself"
    assert start is None or start in defenses.names(), f"starts_from() names '{start}', which is not a defense"
    guide = entry.plugin.selects_with(small.params_of(entry))
    assert start is None or guide is None, "a defense may define starts_from() or selects_with(), but not both"
    known = guide is None or guide in ("undefended", "clean") or ":" in guide
    assert known, f"selects_with() returns '{guide}'; it may return 'undefended', 'clean' or MODEL:WEIGHTS of open_clip"


def check_never_sees_the_poison(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    readers = ", ".join(sorted(set(plain.mask_readers)))
    assert not readers, f"training reads which pairs are poisoned: {readers}; a defense must not know this"
    relabelled = train(entry, relabelled=True)
    sentence = "changing which pairs are marked as poisoned changes training; a defense must not know this"
    _assert_same(plain, relabelled, sentence)


def _assert_same(result: TrainingResult, other: TrainingResult, sentence: str) -> None:
    first, second = result.spy.losses, other.spy.losses
    step = next((step for step, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    assert step is None, f"{sentence} (losses differ from step {step} on)"
    assert len(first) == len(second), f"{sentence} ({len(first)} steps against {len(second)})"
    assert _same(result.weights, other.weights), f"{sentence} (final weights differ)"
    telemetries = result.spy.telemetries[len(result.spy.telemetries) - len(other.spy.telemetries) :]
    assert _same(telemetries, other.spy.telemetries), f"{sentence} (telemetry differs)"


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and list(first) == list(second) and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


CHECKS: tuple[Callable[[Entry[Defense]], None], ...] = (
    check_start,
    check_training,
    check_what_has_gradient_is_optimised,
    check_telemetry,
    check_scores,
    check_limits,
    check_meaning,
    check_training_follows_the_seed,
    check_state_can_be_saved,
    check_interruption_changes_nothing,
    check_never_sees_the_poison,
)
