"""The metrics of paper tables: a number for one run, or the reason why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.matrix.old_records import meaning_of
from bench.matrix.schema import CurvePoint, RunRecord, SpecRecord
from bench.reports.labels import flatten
from bench.reports.records import Evaluation, Run
from bench.reports.stats import OVERALL, Point, point_of, pooled, task_mean
from bench.suites.suite import MINUS_CLIP, PRINTED_ONLY, UNDEFENDED

Problem = tuple[str, str]
"""A status and its reason."""
UTILITY = ("zero_shot", "linear_probe")
TOP1 = "top1"


@dataclass(frozen=True)
class Metric:
    """How a metric is displayed and compared; `differs`: whether measured minus published is meaningful."""

    unit: str = "fraction"
    better: str = "neither"
    decimals: int = 3
    differs: bool = True


class _Metrics(dict[str, Metric]):
    """Metrics by name, including time.STAGE and setting.PARAMETER for the stages and learning rates that defenses declare."""

    def __missing__(self, name: str) -> Metric:
        kinds = {"time": Metric(unit="CLIP epochs"), "setting": Metric(unit="setting", differs=False)}
        return kinds[name.partition(".")[0]]


SAFE_SHARE, RECALL, RATE = "safe_share", "safe_poison_recall", "safe_poison_rate"
METRICS = _Metrics(
    {
        "asr": Metric(better="lower"),
        "zero_shot": Metric(better="higher"),
        "linear_probe": Metric(better="higher"),
        RECALL: Metric(better="lower"),
        RATE: Metric(better="lower", decimals=8),
        SAFE_SHARE: Metric(),
        "time.increase": Metric(better="lower"),
        PRINTED_ONLY: Metric(unit="setting", differs=False),
    }
)


def point_for(run: Run, undefended: Run | None, metric: str, task: str) -> Point | Problem:
    """The metric of a run. `undefended` is the undefended run with the same data, attack and seed."""
    if metric == "asr" or metric in UTILITY:
        return _evaluated(run, undefended, metric, task)
    if run.record is None:
        return _state(run)
    if metric.startswith("time."):
        if undefended is None or undefended.record is None:
            return "missing", "the undefended run to compare its time with is missing"
        return _timed(run.record, undefended.record, metric)
    if metric.startswith("setting."):
        value = _setting(run.spec, run.record, metric.removeprefix("setting."))
        point = None if value is None else Point(value, unit=METRICS[metric].unit)
    else:
        point = _observed(run, run.record, metric)
    return point or ("no value", "the run did not record it")


def _state(run: Run) -> Problem:
    first = run.evaluations[0]
    return first.status, first.reason


def _evaluated(run: Run, undefended: Run | None, metric: str, task: str) -> Point | Problem:
    evaluation = next((each for each in run.evaluations if each.name == metric), None)
    if evaluation is None:
        return ("missing", f"{metric} was not requested") if run.record else _state(run)
    if evaluation.status != "done":
        return evaluation.status, evaluation.reason
    if metric == "asr":
        return pooled(evaluation, metric) or ("no value", "measured, but on no applicable image")
    if task == MINUS_CLIP:
        return _gain(evaluation, undefended)
    if not task:
        return _mean(evaluation) or ("no value", "measured on no downstream task")
    return point_of(evaluation, TOP1, task) or ("unsupported", "this data set has no such downstream task")


def _gain(evaluation: Evaluation, undefended: Run | None) -> Point | Problem:
    others = [each for each in undefended.evaluations if each.name == evaluation.name] if undefended else []
    own, other = _mean(evaluation), _mean(others[0]) if others else None
    if own is None or other is None:
        return "missing", "the undefended run to compare it with is missing"
    return Point(own.value - other.value, identity=own.identity)


def _mean(evaluation: Evaluation) -> Point | None:
    return task_mean(evaluation, TOP1, tasks_of(evaluation))


def tasks_of(evaluation: Evaluation) -> list[str]:
    """The downstream tasks that were measured."""
    return sorted({m.task for m in evaluation.measurements if m.metric == TOP1} - set(OVERALL))


def _observed(run: Run, record: RunRecord, metric: str) -> Point | None:
    """A metric of the first safe set; an undefended run has all pairs in it."""
    pairs, poisons = record.data.train_pairs or 0, record.poison.pairs if record.poison else 0
    name = meaning_of(record).safe_share
    split = next((point for point in _epochs(record) if name in point.telemetry), None)
    if split is None and run.defense != UNDEFENDED:
        return None
    share, recall, rate = (
        [split.share(each) for each in (name, RECALL, RATE)] if split else [1.0, 1.0, poisons / pairs if pairs else None]
    )
    known = {SAFE_SHARE: (share, pairs), RECALL: (recall, poisons), RATE: (rate, round((share or 0.0) * pairs))}
    value, n = known[metric]
    return None if value is None else Point(float(value), n=n)


def _setting(spec: SpecRecord, record: RunRecord, name: str) -> float | None:
    """A training option; or a parameter that is a share of the learning rate, multiplied by it."""
    if name not in meaning_of(record).lr_shares:
        return flatten(spec.train.dump())[name]  # type: ignore[no-any-return]
    share = flatten(spec.defense.params.dump())[name] if spec.defense else None
    return spec.train.lr * share if spec.train.lr is not None and isinstance(share, int | float) else None


def _timed(record: RunRecord, undefended: RunRecord, metric: str) -> Point | Problem:
    if metric == "time.increase":
        spent, base = _total(record), _total(undefended)
        return Point(spent / base - 1) if spent and base else ("no value", "the run did not record its times")
    own = {"time.update": _update, "time.epoch": _epoch}
    spent, base = own[metric](record) if metric in own else _of_stage(record, metric), _epoch(undefended)
    if not spent or not base:
        return "no value", "the run has no such epochs, or did not record their times"
    return Point(spent / base, unit=METRICS[metric].unit)


def _total(record: RunRecord) -> float | None:
    """Seconds of a run, including the runs that it builds on; None if one of them was not recorded."""
    stages, below = record.timing.stages, record.timing.builds_on_seconds
    if below is None and record.spec and record.spec.defense and record.spec.defense.builds_on:
        return None
    return sum(stages.values()) + (below or 0.0) if stages else None


def _epoch(record: RunRecord) -> float | None:
    return _average(_epochs(record))


def _of_stage(record: RunRecord, metric: str) -> float | None:
    """Seconds of an epoch of a stage, without the update of the safe set at its end."""
    found: dict[str, list[CurvePoint]] = defaultdict(list)
    stages = {stage.phase: stage for stage in meaning_of(record).stages}
    for point in _epochs(record):
        phases = [phase for phase in stages if f"loss_{phase}" in point.telemetry]
        found[f"time.{stages[phases[-1]].name}" if phases else ""].append(point)
    spent, update = _average(found[metric]), _update(record)
    if not any(stage.updates for stage in stages.values() if f"time.{stage.name}" == metric):
        return spent
    return spent - update if spent and update else None


def _update(record: RunRecord) -> float | None:
    """Seconds of an update of the safe set."""
    splits = sum(meaning_of(record).safe_share in point.telemetry for point in _epochs(record))
    return record.timing.stages["scoring"] / splits if splits and "scoring" in record.timing.stages else None


def _average(points: Sequence[CurvePoint]) -> float | None:
    return fmean(point.seconds or 0.0 for point in points) if points else None


def _epochs(record: RunRecord) -> list[CurvePoint]:
    return [point for point in record.curves if point.seconds is not None]
