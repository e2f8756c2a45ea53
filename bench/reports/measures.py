"""What a cell of a paper's table measures: a number of one run, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.reports.labels import is_number
from bench.reports.records import Evaluation, Record, Run
from bench.reports.stats import OVERALL, Point, point_of, pooled, task_mean
from bench.suites.suite import MINUS_CLIP

Problem = tuple[str, str]
"""A status and its reason."""
UTILITY = ("zero_shot", "linear_probe")
TOP1 = "top1"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown and compared; `differs` where measured less published says something."""

    unit: str = "fraction"
    better: str = "neither"
    decimals: int = 3
    differs: bool = True


METRICS = {
    "asr": Metric(better="lower"),
    "zero_shot": Metric(better="higher"),
    "linear_probe": Metric(better="higher"),
    "safe_poison_recall": Metric(better="lower"),
    "safe_poison_rate": Metric(better="lower", decimals=8),
    "safe_share": Metric(),
    "time.unimodal": Metric(unit="CLIP epochs"),
    "time.mixed": Metric(unit="CLIP epochs"),
    "time.update": Metric(unit="CLIP epochs"),
    "time.epoch": Metric(unit="CLIP epochs"),
    "time.increase": Metric(better="lower"),
    "setting.lr": Metric(unit="setting", differs=False),
    "setting.low_lr": Metric(unit="setting", differs=False),
    "setting.batch_size": Metric(unit="setting", differs=False),
    "printed": Metric(unit="setting", differs=False),
}


def point_for(run: Run, undefended: Run | None, metric: str, task: str) -> Point | Problem:
    """The metric of a run. `undefended` is the run without defense of the same data, attack and seed."""
    if metric == "asr" or metric in UTILITY:
        return _evaluated(run, undefended, metric, task)
    if run.record is None:
        return _state(run)
    if metric.startswith("time."):
        if undefended is None or undefended.record is None:
            return "missing", "the undefended run whose time it is compared with is not there"
        return _timed(run.record, undefended.record, metric)
    if metric.startswith("setting."):
        value = _setting(run.spec, metric)
        point = None if value is None else Point(value, unit=METRICS[metric].unit)
    else:
        point = _observed(run, metric)
    return point or ("no value", "the run recorded nothing of it")


def _state(run: Run) -> Problem:
    first = run.evaluations[0]
    return first.status, first.reason


def _evaluated(run: Run, undefended: Run | None, metric: str, task: str) -> Point | Problem:
    evaluation = next((each for each in run.evaluations if each.name == metric), None)
    if evaluation is None:
        return ("missing", f"{metric} was not asked for") if run.record else _state(run)
    if evaluation.status != "done":
        return evaluation.status, evaluation.reason
    if metric == "asr":
        return pooled(evaluation, metric) or ("no value", "measured, but no image applies")
    if task == MINUS_CLIP:
        return _gain(evaluation, undefended)
    if not task:
        return _mean(evaluation) or ("no value", "measured on no downstream task")
    return point_of(evaluation, TOP1, task) or ("unsupported", "this data has no such downstream task")


def _gain(evaluation: Evaluation, undefended: Run | None) -> Point | Problem:
    others = [each for each in undefended.evaluations if each.name == evaluation.name] if undefended else []
    own, other = _mean(evaluation), _mean(others[0]) if others else None
    if own is None or other is None:
        return "missing", "the undefended run that it is compared with is not there"
    return Point(own.value - other.value, identity=own.identity)


def _mean(evaluation: Evaluation) -> Point | None:
    return task_mean(evaluation, TOP1, tasks_of(evaluation))


def tasks_of(evaluation: Evaluation) -> list[str]:
    """The downstream tasks that were measured."""
    return sorted({m["task"] for m in evaluation.measurements if m["metric"] == TOP1} - set(OVERALL))


def _observed(run: Run, metric: str) -> Point | None:
    """Of the first safe set; without a split all pairs are it."""
    record = run.record or {}
    poison, pairs = record.get("poison") or {}, (record.get("data") or {}).get("train_pairs") or 0
    poisons = poison.get("added", 0) + poison.get("replaced", 0)
    everything = {"safe_share": 1.0, "safe_poison_recall": 1.0} | ({"safe_poison_rate": poisons / pairs} if pairs else {})
    first = next((entry for entry in _epochs(record) if "safe_share" in entry), everything if run.defense == "clip" else {})
    if not is_number(first.get(metric)):
        return None
    sizes = {"safe_share": pairs, "safe_poison_recall": poisons, "safe_poison_rate": round(first["safe_share"] * pairs)}
    return Point(float(first[metric]), n=sizes[metric])


def _setting(spec: Record, metric: str) -> float | None:
    train, params = spec.get("train") or {}, (spec.get("defense") or {}).get("params") or {}
    if metric == "setting.low_lr":
        return train["lr"] * params["low_lr"] if "low_lr" in params and "lr" in train else None
    return train.get(metric.removeprefix("setting."))


def _timed(record: Record, undefended: Record, metric: str) -> Point | Problem:
    if metric == "time.increase":
        spent, base = _total(record), _total(undefended)
        return Point(spent / base - 1) if spent and base else ("no value", "the run has no record of its times")
    spent, base = _PARTS[metric](record), _epoch(undefended)
    if not spent or not base:
        return "no value", "the run has no such epochs, or no record of their times"
    return Point(spent / base, unit=METRICS[metric].unit)


def _total(record: Record) -> float | None:
    """Seconds of a run with those of the runs that it builds on; None where one of them is not on record."""
    timing = record.get("timing") or {}
    builds_on = ((record.get("spec") or {}).get("defense") or {}).get("builds_on")
    below = timing.get("builds_on_seconds", None if builds_on else 0.0)
    stages = timing.get("stages") or {}
    return sum(stages.values()) + below if stages and below is not None else None


def _epoch(record: Record) -> float | None:
    return _average(entry["seconds"] for entry in _epochs(record))


def _unimodal(record: Record) -> float | None:
    return _average(e["seconds"] for e in _epochs(record) if "loss_unimodal" in e and "loss_safe" not in e)


def _mixed(record: Record) -> float | None:
    """Epochs of both losses, without the update of the sets at their end."""
    spent = _average(entry["seconds"] for entry in _epochs(record) if "loss_safe" in entry)
    update = _update(record)
    return spent - update if spent and update else None


def _update(record: Record) -> float | None:
    scoring = ((record.get("timing") or {}).get("stages") or {}).get("scoring")
    splits = sum("safe_share" in entry for entry in _epochs(record))
    return scoring / splits if scoring and splits else None


_PARTS: dict[str, Callable[[Record], float | None]] = {
    "time.unimodal": _unimodal,
    "time.mixed": _mixed,
    "time.update": _update,
    "time.epoch": _epoch,
}


def _average(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def _epochs(record: Record) -> list[dict[str, Any]]:
    return [entry for entry in record.get("curves") or [] if isinstance(entry, dict) and is_number(entry.get("seconds"))]
