"""Captions from an Arrow column of strings or of lists of strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.columns import Texts


def of_column(column: Any) -> tuple[Texts, NDArray[np.int64]]:
    """Return the non-empty texts of a chunked array, stripped, and the row that each comes from.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Strings, or lists of strings; nulls count as empty.

    Returns
    -------
    texts : Texts
        The m texts that are not empty, in order.
    rows : int64 (m,)
        The row of each text, ascending.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.arange(len(column))
    if pa.types.is_nested(column.type):
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        begins = np.cumsum([0, *map(len, chunks)])
        parents = [pc.list_parent_indices(chunk).to_numpy() + begin for chunk, begin in zip(chunks, begins, strict=False)]
        rows = np.concatenate([rows[:0], *parents])
        column = pa.chunked_array([pc.list_flatten(chunk) for chunk in chunks], type=column.type.value_type)
    texts = _stripped(pc.fill_null(pc.cast(column, pa.large_string()), ""))
    filled = np.flatnonzero(texts.lengths)
    return texts.select(filled), rows[filled]


def of_columns(columns: Sequence[Any]) -> tuple[Texts, NDArray[np.int64]]:
    """The same of several columns, those of a row in the order of the columns."""
    found = [of_column(column) for column in columns]
    row_of = np.concatenate([rows for _, rows in found])
    order = np.argsort(row_of, kind="stable")
    return Texts.joined([texts for texts, _ in found]).select(order) if found[1:] else found[0][0], row_of[order]


def _stripped(strings: Any) -> Texts:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        whole = pc.utf8_trim_whitespace(strings)
    except pa.ArrowInvalid:  # not UTF-8: Arrow's writers do not check
        repaired = (text.as_buffer().to_pybytes().decode(errors="replace").strip() for text in strings)
        whole = pa.array(repaired, type=pa.large_string())
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    _, offsets, content = whole.buffers()
    bounds = np.frombuffer(offsets or bytes(8), dtype=np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return Texts(np.frombuffer(content or b"", dtype=np.uint8), bounds[:-1], bounds[1:])


def one_each(row_of: NDArray[np.int64], rows: int, seed: int) -> NDArray[np.int64]:
    """For each of `rows` rows, the index of one of its texts, drawn at random; -1 if it has none: int64 (rows,)."""
    starts, ends = (np.searchsorted(row_of, np.arange(rows), side) for side in ("left", "right"))
    drawn = (np.random.default_rng(seed).random(rows) * (ends - starts)).astype(np.int64)
    return np.where(ends > starts, starts + drawn, -1)
