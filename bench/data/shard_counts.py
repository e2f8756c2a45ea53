"""How many samples img2dataset wrote into a shard, from its NAME_stats.json or NAME.parquet."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path


def shortfall(shard: Path, samples: int) -> str:
    """Why a shard is incomplete, if it has fewer samples than were written to it; empty otherwise.

    Parameters
    ----------
    shard : Path
        A folder or a tar.
    samples : int
        The number of samples in it.
    """
    base = shard.name[: -len(".tar")] if shard.name.lower().endswith(".tar") else shard.name
    for file, count in ((f"{base}_stats.json", _from_stats), (f"{base}.parquet", _from_parquet)):
        written = count(shard.with_name(file))
        if written is not None:
            return f"it has {samples:,} samples where {file} counts {written:,}" if samples < written else ""
    return ""


def _from_stats(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        stats = json.loads(file.read_bytes())
        successes = stats.get("successes") if isinstance(stats, dict) else None
        return successes if type(successes) is int else None
    return None


def _from_parquet(file: Path) -> int | None:
    """Rows whose status is success; None if they cannot be read, for example without pyarrow."""
    if not file.is_file():
        return None
    with contextlib.suppress(Exception):  # pyarrow may be missing, and raises many kinds of errors
        from pyarrow import parquet

        return int(parquet.read_table(file, columns=["status"])["status"].to_pylist().count("success"))
    return None
