"""Records as data frames: one row a measurement, or a cell that has none and why."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.reports.records import Evaluation, Run

COLUMNS = [
    "data", "model", "attack", "attack_rate", "defense", "seed", "evaluator", "task", "metric", "value", "unit", "n",
    "ci_low", "ci_high", "status", "reason", "run_key",
]  # fmt: skip
WIDE = [
    *COLUMNS, "better", "setting", "data_spec", "attack_spec", "defense_spec", "train_spec", "evaluator_spec",
    "finished",
]  # fmt: skip
MEASURED = ("task", "metric", "value", "unit", "n", "ci_low", "ci_high", "better", "evaluator_spec", "finished")


def wide_frame(runs: list[Run]) -> pd.DataFrame:
    """One row a measurement, in the order of the runs; cells and downstream sets without one have a row that says why.

    Values are Python objects: an absent one is None, never NaN.
    """
    rows = [row for run in runs for evaluation in run.evaluations for row in _rows(run, evaluation)]
    return pd.DataFrame(rows, columns=WIDE, dtype=object)


def _rows(run: Run, evaluation: Evaluation) -> list[dict[str, Any]]:
    base: dict[str, Any] = {
        **dict.fromkeys(MEASURED),
        "data": run.data,
        "model": run.model,
        "attack": run.attack,
        "attack_rate": run.attack_rate,
        "defense": run.title,
        "seed": run.seed,
        "evaluator": evaluation.name,
        "status": evaluation.status,
        "reason": evaluation.reason,
        "run_key": run.key,
        "setting": run.setting,
        **{f"{part}_spec": run.spec.get(part) for part in ("data", "attack", "defense", "train")},
    }
    if evaluation.record is None or not evaluation.measurements:
        return [base]
    base |= {"evaluator_spec": evaluation.record.get("evaluator"), "finished": evaluation.record.get("finished")}
    partial = evaluation.left_out("partial")
    rows = [
        base | _measured(evaluation, measurement) | {"reason": partial.get(measurement["task"], evaluation.reason)}
        for measurement in sorted(evaluation.measurements, key=lambda m: (str(m["task"]), str(m["metric"])))
    ]
    skipped = sorted(evaluation.left_out("skipped").items())
    return rows + [base | {"task": task, "status": "skipped", "reason": reason} for task, reason in skipped]


def _measured(evaluation: Evaluation, measurement: dict[str, Any]) -> dict[str, Any]:
    declared = evaluation.metric(measurement["metric"])
    return {
        **{name: measurement.get(name) for name in ("task", "metric", "value", "n", "ci_low", "ci_high")},
        "unit": declared.get("unit", "fraction"),
        "better": declared.get("better", "neither"),
    }
