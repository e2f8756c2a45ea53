"""What every defense promises."""

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
from bench.testing.training import Run, World, train
from bench.training.gradients import NotOptimised

_LEG = 3
"""Steps between two interruptions."""
_CURVES = {"epoch", "steps", "loss", "pairs", "seconds", "pairs_per_second", "lr", "logit_scale", "clip_steps", "clip_pairs"}
_HELD = {
    "safe": torch.bool,
    "similarity": torch.float32,
    "image_neighbour": torch.int64,
    "text_neighbour": torch.int64,
    "reference": torch.int64,
}


@cache
def _attempt(entry: Entry[Defense]) -> Run | Exception:
    try:
        return train(entry)
    except Exception as error:
        return error


def _plain(entry: Entry[Defense]) -> Run:
    run = _attempt(entry)
    assert isinstance(run, Run), "cannot be checked, since training fails"
    return run


def check_training(entry: Entry[Defense]) -> None:
    run = _attempt(entry)
    if isinstance(run, Exception) and not isinstance(run, NotOptimised):
        raise run
    run = _plain(entry)
    unreached = ", ".join(sorted(run.witness.unreached))
    assert not unreached, f"the loss has no gradient in the encoder in the phases: {unreached}"
    start = small.encoder().state_dict()
    assert any(not torch.equal(run.weights[name], start[name]) for name in start), "training leaves every weight as it was"


def check_what_has_gradient_is_optimised(entry: Entry[Defense]) -> None:
    run = _attempt(entry)
    assert not isinstance(run, NotOptimised), str(run)


def check_telemetry(entry: Entry[Defense]) -> None:
    witness = _plain(entry).witness
    for figures in witness.figures:
        taken = sorted(set(figures) & _CURVES)
        assert not taken, f"telemetry() uses names that the trainer's own curves have: {', '.join(taken)}"
        for name, value in figures.items():
            assert isinstance(value, int | float), f"telemetry() gives {name} as a {type(value).__name__}, not a number"
    for held in witness.holdings:
        for name, values in held.items():
            assert name in _HELD, f"observed() gives '{name}'; it may give {' and '.join(_HELD)}"
            wanted = (_HELD[name], (witness.defense.setup.pairs,))
            found = (torch.as_tensor(values).dtype, tuple(values.shape))
            assert found == wanted, f"observed() gives '{name}' as {found}, not as {wanted}"


def check_scores(entry: Entry[Defense]) -> None:
    defense = _plain(entry).witness.defense
    scores = defense.scores()
    if scores is None:
        return
    found, wanted = (str(scores.dtype), scores.shape), ("float32", (defense.setup.pairs,))
    assert found == wanted, f"scores() gives {found}, not {wanted}"
    assert not np.isnan(scores).all(), "scores() scores no pair; give None where the defense does not score pairs"
    assert not np.isinf(scores).any(), "scores() has infinite values; give NaN for a pair that was not scored"


def check_limits(entry: Entry[Defense]) -> None:
    figures = {name for each in _plain(entry).witness.figures for name in each}
    for limit in entry.plugin.limits(small.params_of(entry)):
        assert limit.figure in figures, f"limits() names '{limit.figure}', which telemetry() never gives in four epochs"
        bounded = limit.low is not None or limit.high is not None
        assert bounded, f"limits() gives '{limit.figure}' neither a low nor a high bound"


def check_meaning(entry: Entry[Defense]) -> None:
    figures = {name for each in _plain(entry).witness.figures for name in each}
    meaning = entry.plugin.meaning(small.params_of(entry))
    named = {meaning.safe_share, meaning.safe_cut, *(meaning.mixture.model_dump().values() if meaning.mixture else ())} - {""}
    unknown = ", ".join(sorted(named - figures))
    assert not unknown, f"meaning() names what telemetry() never gives in four epochs: {unknown}"


def check_training_follows_the_seed(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    _assert_same(plain, train(entry, global_seed=1), "two runs of equal seed differ; draw from setup.rng(purpose)")


def check_state_can_be_saved(entry: Entry[Defense]) -> None:
    state = _plain(entry).witness.defense.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        loaded = torch.load(buffer, weights_only=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise AssertionError(f"state_dict() must hold tensors, numbers, strings, lists and dicts only: {reason}") from error
    fresh = World(entry).defense()
    fresh.load_state_dict(loaded)
    assert _same(fresh.state_dict(), state), "state_dict() of a fresh defense that loaded a state is not that state"


def check_interruption_changes_nothing(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    _assert_same(
        plain, train(entry, leg=_LEG), "an interrupted run goes on with other numbers; keep what it needs in state_dict()"
    )


def check_start(entry: Entry[Defense]) -> None:
    start = entry.plugin.starts_from()
    assert start != entry.plugin.name, "starts_from() names the defense itself"
    assert start is None or start in defenses.names(), f"starts_from() names '{start}', and there is no such defense"
    guide = entry.plugin.selects_with(small.params_of(entry))
    assert start is None or guide is None, "a defense starts from a trained model or selects pairs with one, not both"
    known = guide is None or guide in ("undefended", "clean") or ":" in guide
    assert known, f"selects_with() gives '{guide}'; it may give 'undefended', 'clean' or MODEL:WEIGHTS of open_clip"


def check_never_sees_the_poison(entry: Entry[Defense]) -> None:
    plain = _plain(entry)
    readers = ", ".join(sorted(set(plain.mask_readers)))
    assert not readers, f"training reads which pairs are poisoned: {readers}; a defense must not know"
    disguised = train(entry, disguised=True)
    _assert_same(plain, disguised, "changing which pairs are marked as poisoned changes training; a defense must not know them")


def _assert_same(run: Run, other: Run, sentence: str) -> None:
    first, second = run.witness.losses, other.witness.losses
    step = next((step for step, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    assert step is None, f"{sentence} (losses differ from step {step} on)"
    assert len(first) == len(second), f"{sentence} ({len(first)} steps against {len(second)})"
    assert _same(run.weights, other.weights), f"{sentence} (final weights differ)"
    figures = run.witness.figures[len(run.witness.figures) - len(other.witness.figures) :]
    assert _same(figures, other.witness.figures), f"{sentence} (telemetry differs)"


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
