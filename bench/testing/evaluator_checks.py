"""Contract checks of evaluators."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import cache

import torch

from bench.api import Evaluator, Measurement, Predictions
from bench.registry import Entry
from bench.testing.small import eval_context, params_of


@cache
def _evaluated(
    entry: Entry[Evaluator], global_seed: int = 0, sparse: bool = False
) -> tuple[list[Measurement], list[Predictions]]:
    torch.manual_seed(global_seed)
    ctx = eval_context(entry, sparse)
    return entry.plugin(params_of(entry)).evaluate(ctx), ctx.kept


def _measured(entry: Entry[Evaluator], global_seed: int = 0, sparse: bool = False) -> list[Measurement]:
    return _evaluated(entry, global_seed, sparse)[0]


def check_metrics(entry: Entry[Evaluator]) -> None:
    declared = [metric.name for metric in entry.plugin.metrics]
    assert declared, "metrics is empty; declare what is measured"
    assert len(declared) == len(set(declared)), f"a metric is declared twice: {', '.join(declared)}"
    for metric in entry.plugin.metrics:
        assert metric.description, f"the metric '{metric.name}' has no description"
    measured = {each.metric for each in _measured(entry)}
    assert measured <= set(declared), f"measured but not declared: {', '.join(sorted(measured - set(declared)))}"
    assert measured >= set(declared), f"declared but not measured: {', '.join(sorted(set(declared) - measured))}"


def check_measurements(entry: Entry[Evaluator]) -> None:
    units = {metric.name: metric.unit for metric in entry.plugin.metrics}
    for each in _measured(entry):
        what = f"{each.metric} on {each.task}"
        assert each.task, f"{each.metric}: a measurement has no task"
        assert math.isfinite(each.value), f"{what} is {each.value}"
        assert each.n > 0, f"{what} is measured on {each.n} images"
        assert each.ci_low <= each.value <= each.ci_high, (
            f"{what}: {each.value} is outside its interval {each.ci_low}..{each.ci_high}"
        )
        if units.get(each.metric) == "fraction":
            assert 0 <= each.ci_low <= each.ci_high <= 1, f"{what}: the fraction {each.value} or its interval is outside 0..1"
    twice = [pair for pair, count in Counter((each.metric, each.task) for each in _measured(entry)).items() if count > 1]
    assert not twice, f"measured twice: {twice}"


def check_predictions(entry: Entry[Evaluator]) -> None:
    measured, kept = _evaluated(entry)
    strange = {each.task for each in kept} - {each.task for each in measured}
    assert not strange, f"it keeps predictions on tasks that it does not measure: {', '.join(sorted(strange))}"


def check_evaluation_follows_the_seed(entry: Entry[Evaluator]) -> None:
    same = _measured(entry) == _measured(entry, global_seed=1)
    assert same, "two evaluations of the same model differ; draw only from a generator seeded with ctx.seed"


def check_needs_only_what_it_declares(entry: Entry[Evaluator]) -> None:
    try:
        _measured(entry, sparse=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise AssertionError(f"it fails with only what it declares to need (needs_...): {reason}") from error


CHECKS: tuple[Callable[[Entry[Evaluator]], None], ...] = (
    check_metrics,
    check_measurements,
    check_predictions,
    check_evaluation_follows_the_seed,
    check_needs_only_what_it_declares,
)
