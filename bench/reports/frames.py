"""Records as data frames: one row for each measurement, or for a cell without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.matrix.schema import MeasurementRecord
from bench.reports.labels import track_of
from bench.reports.records import Evaluation, Run

COLUMNS = [
    "data", "model", "track", "attack", "attack_rate", "defense", "seed", "evaluator", "task", "metric", "value", "unit", "n",
    "ci_low", "ci_high", "status", "reason", "run_key",
]  # fmt: skip
WIDE = [
    *COLUMNS, "better", "setting", "data_spec", "attack_spec", "defense_spec", "train_spec", "evaluator_spec",
    "finished",
]  # fmt: skip
_MEASURED = ("task", "metric", "value", "unit", "n", "ci_low", "ci_high", "better", "evaluator_spec", "finished")


def wide_frame(runs: list[Run]) -> pd.DataFrame:
    """One row for each measurement, in the order of the runs; cells and downstream sets without one have a row with the reason.

    Values are Python objects; a missing one is None, not NaN.
    """
    rows = [row for run in runs for evaluation in run.evaluations for row in _rows(run, evaluation)]
    return pd.DataFrame(rows, columns=WIDE, dtype=object)


def _rows(run: Run, evaluation: Evaluation) -> list[dict[str, Any]]:
    base: dict[str, Any] = {
        **dict.fromkeys(_MEASURED),
        "data": run.data,
        "model": run.model,
        "track": track_of(run.weights),
        "attack": run.attack,
        "attack_rate": run.attack_rate,
        "defense": run.title,
        "seed": run.seed,
        "evaluator": evaluation.name,
        "status": evaluation.status,
        "reason": evaluation.reason,
        "run_key": run.key,
        "setting": run.setting,
        **{f"{part}_spec": value for part, value in run.spec.dump().items() if f"{part}_spec" in WIDE},
    }
    if evaluation.record is None or not evaluation.measurements:
        return [base]
    evaluator = evaluation.record.evaluator
    base |= {"evaluator_spec": evaluator and evaluator.dump(), "finished": evaluation.record.finished}
    reasons = dict.fromkeys((m.task for m in evaluation.measurements), evaluation.reason) | evaluation.left_out("partial")
    rows = [
        base | _measured(evaluation, measurement) | {"reason": reasons[measurement.task]}
        for measurement in sorted(evaluation.measurements, key=lambda m: (m.task, m.metric))
    ]
    skipped = sorted(evaluation.left_out("skipped").items())
    return rows + [base | {"task": task, "status": "skipped", "reason": reason} for task, reason in skipped]


def _measured(evaluation: Evaluation, measurement: MeasurementRecord) -> dict[str, Any]:
    declared = evaluation.metric(measurement.metric)
    found = {name: getattr(measurement, name) for name in ("task", "metric", "value", "n", "ci_low", "ci_high")}
    return found | {"unit": declared.unit, "better": declared.better}


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV text. Floats are written in full precision; None and missing values are empty."""
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object).to_csv(index=False, lineterminator="\n")
