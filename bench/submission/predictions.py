"""Recorded numbers beside the predictions that they are means of.

Somebody who makes up a number has to make up the prediction for each image too, which `remeasure` compares where it can.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.errors import UserError
from bench.matrix.predictions import read
from bench.matrix.schema import EvalRecord
from bench.reports.measures import TOP1, UTILITY
from bench.reports.tables import ASR, FLOOR, TRIGGERED
from bench.submission.flaw import Flaw
from bench.submission.manifest import sha256
from bench.submission.records import Records, eval_path

_MOST_BYTES = 2**29
"""Of a file of predictions, unpacked."""
_CLOSE = 1e-9


def check_predictions(records: Records) -> int:
    """Compare ASR and accuracies with the predictions in the archive.

    Returns
    -------
    int
        The number of evaluations with predictions.

    Raises
    ------
    Flaw
        If a number is not their mean, or a file of predictions is not the one that a record has the digest of.
    """
    found = {eval_path(key, each): each for key in records.runs for each in records.evaluations[key]}
    files = {path: records.root / _file(path) for path in found}
    strange = set((records.root / "runs").glob("*/evals/*.npz")) - set(files.values())
    for file in sorted(strange):
        raise Flaw(file.relative_to(records.root).as_posix(), "there is no record beside it")
    for path, record in found.items():
        _check(path, files[path], record)
    return sum(each.predictions is not None for each in found.values())


def _file(path: str) -> str:
    return f"{path.removesuffix('.json')}.npz"


def _check(path: str, file: Path, record: EvalRecord) -> None:
    name = _file(path)
    if (record.predictions is not None) != file.is_file():
        raise Flaw(name, "missing, but in the record beside it" if record.predictions else "not in the record beside it")
    if record.predictions is None:
        return
    if sha256(file) != record.predictions.sha256:
        raise Flaw(name, "its sha256 is not that in the record beside it")
    rows = _rows(name, file, record.predictions.sha256)
    if len(rows) != record.predictions.rows:
        raise Flaw(name, f"has {len(rows)} rows, the record beside it says {record.predictions.rows}")
    if record.evaluator and record.evaluator.name in (ASR, *UTILITY):
        means = dict(_means(rows))
        for each in record.measurements:
            mean = means.get((each.metric, each.task))
            if mean is not None and (each.value is None or abs(each.value - mean) > _CLOSE):
                raise Flaw(
                    path, f"{each.metric} of {each.task} is {each.value}, but the mean of the predictions beside it is {mean}"
                )


def _rows(name: str, file: Path, digest: str) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                raise Flaw(name, f"unpacks to more than {_MOST_BYTES:,} bytes")
        return read(file, digest)
    except Flaw:
        raise
    except (UserError, zipfile.BadZipFile, OSError, ValueError):
        raise Flaw(name, "not a file of predictions") from None


def _means(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], float]]:
    """What ASR, floor and accuracies are by these rows: metric and task, and the mean."""
    probes = rows[rows.task == "all"]
    if len(probes):
        yield (ASR, "all"), float((probes.predicted == probes.target).mean())
        if probes.predicted_clean.notna().any():
            yield (FLOOR, "all"), float((probes.predicted_clean == probes.target).mean())
    for task, of in rows.groupby("task", observed=True):
        known = of.correct.dropna()
        if len(known):
            yield (TRIGGERED if task == "all" else TOP1, str(task)), float(known.mean())
