"""`bench.load_results`."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bench.canonical import canonical
from bench.matrix.store import Store
from bench.reports.frames import wide_frame
from bench.reports.records import Run, load_runs

_TEXT, _NUMBER, _COUNT = "string", "float64", "Int64"
COLUMNS = {
    "data": _TEXT,
    "model": _TEXT,
    "track": _TEXT,
    "attack": _TEXT,
    "rate": _NUMBER,
    "defense": _TEXT,
    "control_of": _TEXT,
    "seed": "int64",
    "evaluator": _TEXT,
    "task": _TEXT,
    "metric": _TEXT,
    "unit": _TEXT,
    "better": _TEXT,
    "value": _NUMBER,
    "n": _COUNT,
    "ci_low": _NUMBER,
    "ci_high": _NUMBER,
    "status": _TEXT,
    "reason": _TEXT,
    "run_key": _TEXT,
    "recipe": _TEXT,
    "engine": _TEXT,
    "train": _TEXT,
    "attack_params": _TEXT,
    "defense_params": _TEXT,
    "train_seconds": _NUMBER,
}
"""Columns and their dtypes."""


def read_folder(folder: str | PathLike[str]) -> tuple[Store, list[Run]]:
    """Open a results folder, with a warning to the caller's caller for each damaged record."""
    store = Store.open(Path(folder))
    runs = load_runs(store)
    for path, reason in sorted(store.damaged.items()):
        warnings.warn(f"{store.root / path}: {reason}; it is skipped", stacklevel=3)
    return store, runs


def load_results(folder: str | PathLike[str] = "results") -> pd.DataFrame:
    """Read a results folder as a data frame with one row for each measurement.

    Needs the records alone: no data, plugins or PyTorch. A cell or evaluator without measurements has one row with the reason.

    Parameters
    ----------
    folder : str or path
        A results folder (`bench run --out`).

    Returns
    -------
    pandas.DataFrame
        Rows in the order of the report, with these columns. Missing text is NA.

        data, model, attack, defense : string
            Names; `attack` is "none" without poison.
        track : string
            "from scratch", or "fine-tuned" if the cell starts from given weights.
        rate : float64
            Poison rate, as a share of the clean training pairs; NaN without poison.
        control_of : string
            The defense that a control belongs to; NA for other cells.
        seed : int64
        evaluator, task, metric, unit, better : string
            The metric. `unit` is mostly "fraction", in [0, 1]; `better` is "lower", "higher" or "neither".
        value, ci_low, ci_high : float64
            The measurement and its 95% interval; NaN if missing.
        n : Int64
            The number of images or pairs measured on.
        status, reason : string
            "done", or "failed", "missing", "unsupported" or "skipped" with the reason.
        run_key : string
            The cell's key; its files are in ``runs/KEY``.
        recipe : string
            The requested recipe; NA is the data set's own, or an inline one.
        engine : string
            Version of the training engine. Numbers of different versions are not comparable.
        train, attack_params, defense_params : string
            Options as canonical JSON, which can be grouped by: equal options are equal text.
        train_seconds : float64
            Seconds of the cell's own training.

    Raises
    ------
    UserError
        If the folder does not exist, or was written by a later version.

    Warns
    -----
    UserWarning
        For each damaged record, which is skipped.

    Examples
    --------
    >>> frame = bench.load_results("results/reference")  # doctest: +SKIP
    >>> asr = frame[(frame.metric == "asr") & (frame.task == "all") & frame.control_of.isna()]  # doctest: +SKIP
    >>> asr.pivot_table("value", "attack", "defense")  # doctest: +SKIP
    """
    _, runs = read_folder(folder)
    rows = wide_frame(runs).rename(columns={"attack_rate": "rate"})
    of_runs = pd.DataFrame([_run_columns(run) for run in runs], columns=["run_key", *_RUN_COLUMNS], dtype=object)
    whole = rows.drop(columns="defense").merge(of_runs, on="run_key", how="left")
    return whole[list(COLUMNS)].replace({"": None}).astype(COLUMNS)


_RUN_COLUMNS = ("defense", "control_of", "recipe", "engine", "train", "attack_params", "defense_params", "train_seconds")


def _run_columns(run: Run) -> dict[str, Any]:
    """Columns of a run beyond those of the report."""
    spec, record = run.spec, run.record
    return {
        "run_key": run.key,
        "defense": run.defense,
        "control_of": run.beside.name if run.beside else None,
        "recipe": run.recipe,
        "engine": None if spec.engine is None else str(spec.engine),
        "train": canonical(spec.train.dump()),
        "attack_params": canonical(spec.attack.params.dump() if spec.attack else {}),
        "defense_params": canonical(spec.defense.params.dump() if spec.defense else {}),
        "train_seconds": record.timing.train_seconds if record else None,
    }
