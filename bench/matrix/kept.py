"""What an evaluator keeps of its predictions, as a file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import Predictions
from bench.matrix.predictions import CLASSES, DTYPES, FLOATS, LISTS, pack
from bench.matrix.schema import PredictionsRecord

_Numbers = dict[str, int]
"""Names, numbered in the order in which they came."""


def filed(kept: Sequence[Predictions]) -> tuple[PredictionsRecord, bytes]:
    """The file of what an evaluator kept, of one task at least, and its part of the record."""
    known: dict[str, _Numbers] = {kind: {} for kind in LISTS.values()}
    parts = [_columns(each, known) for each in kept]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in DTYPES}
    content = pack(columns, {kind: list(names) for kind, names in known.items()})
    return PredictionsRecord(sha256=hashlib.sha256(content).hexdigest(), rows=sum(map(len, kept))), content


def _columns(kept: Predictions, known: dict[str, _Numbers]) -> dict[str, NDArray[Any]]:
    """The columns DTYPES; codes are numbers of names in `known`, which are added where they are new."""
    rows = len(kept)
    columns: dict[str, NDArray[Any]] = dict.fromkeys(DTYPES, np.full(rows, -1)) | dict.fromkeys(FLOATS, np.full(rows, np.nan))
    columns |= {name: value for name, value in vars(kept).items() if isinstance(value, np.ndarray)}
    numbers = np.append(_numbered(_distinct(kept.classes), known["classes"]), -1)
    columns |= {name: numbers[columns[name]] for name in CLASSES}
    if kept.true is not None and kept.predicted is not None:
        correct = kept.true == kept.predicted if kept.correct is None else kept.correct
        columns["correct"] = np.where(kept.true < 0, -1, correct)
    columns["task"] = _numbered([kept.task] * rows, known["tasks"])
    columns["group"] = _numbered([kept.groups] * rows if isinstance(kept.groups, str) else kept.groups, known["groups"])
    columns["uid"] = _numbered(kept.uids if len(kept.uids) else map(str, range(rows)), known["uids"])
    return columns


def _numbered(names: Iterable[str], known: _Numbers) -> NDArray[np.int64]:
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names; those of several classes with the index of each."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({index})" for index, name in enumerate(names)]
