"""What each probe and test image was given: an npz beside the record of an evaluation, which holds its digest.

A column is an array of numbers, or of codes into a list of names that is in the file too; -1 is none, and NaN in a column of
floats. Columns that have nothing else are left out.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import UserError

CLASSES = ("true", "target", "predicted", "predicted_clean")
"""Columns that share a list of names."""
LISTS = {"task": "tasks", "group": "groups", "uid": "uids", **dict.fromkeys(CLASSES, "classes")}
"""Columns of codes, and the list that each is of."""
NUMBERS = {"correct": "boolean", "place": "Int32", "place_clean": "Int32", "rejected": "boolean"}
"""Columns of whole numbers, and their dtype in a data frame."""
FLOATS = {"suspicion": "Float32"}
"""The same of floats."""
DTYPES = {**dict.fromkeys(LISTS, "category"), **NUMBERS, **FLOATS}
Ints = NDArray[np.integer[Any]]


def pack(columns: Mapping[str, NDArray[Any]], lists: Mapping[str, Sequence[str]]) -> bytes:
    """The file of columns (rows,), named as in DTYPES, and of the lists of those that are codes; equal for equal input."""
    arrays: dict[str, Any] = {
        name: codes.astype(np.min_scalar_type(-1 - int(codes.max())))
        for name, codes in columns.items()
        if name not in FLOATS and (codes >= 0).any()
    }
    arrays |= {name: columns[name].astype(np.float32) for name in FLOATS if not np.isnan(columns[name]).all()}
    arrays |= {kind: np.array(names, dtype=np.str_) for kind, names in lists.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def unpack(content: bytes) -> pd.DataFrame:
    """What is in a file, with the columns DTYPES; raises errors of several kinds for other content."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    none = np.full(len(arrays["uid"]), -1)
    lists = {kind: pd.Index(arrays[kind].tolist(), dtype=object) for kind in LISTS.values()}
    frame: dict[str, Any] = {
        name: pd.Categorical.from_codes(arrays.get(name, none), lists[kind]) for name, kind in LISTS.items()
    }
    for name in NUMBERS:
        numbers = arrays.get(name, none).astype(np.int32)
        frame[name] = pd.arrays.IntegerArray(numbers, numbers < 0)
    for name in FLOATS:
        floats = arrays.get(name, np.full(len(none), np.nan)).astype(np.float32)
        frame[name] = pd.arrays.FloatingArray(floats, np.isnan(floats))
    return pd.DataFrame(frame).astype(NUMBERS)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of one or more frames; a column stays categorical, with the categories of all of them.

    The class columns of a file share a list of names, so their categories stay the same.
    """
    kinds = {}
    for column in frames[0].select_dtypes("category"):
        names = dict.fromkeys(name for frame in frames for name in frame[column].cat.categories)
        kinds[column] = pd.CategoricalDtype(pd.Index(list(names), dtype=object))
    return pd.concat([frame.astype(kinds) for frame in frames], ignore_index=True)


def read(file: Path, sha256: str) -> pd.DataFrame:
    """Read the file of an evaluation whose record has this digest. Raises UserError where it is another file or none."""
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return unpack(content)
        problem = "is not the file of its record, which has another sha256 digest"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except Exception:  # zipfile, zlib, NumPy and pandas all raise their own errors
        problem = "is not a file of predictions"
    record = file.with_suffix(".json").name
    raise UserError(f"{file} {problem}: restore it, or delete {record} beside it and repeat the run, which measures again")
