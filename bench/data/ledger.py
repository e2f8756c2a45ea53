"""How many samples img2dataset wrote into a shard, by its NAME_stats.json or NAME.parquet."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path


def lack(shard: Path, samples: int) -> str:
    """The problem where a shard, a folder or a tar, has fewer samples than were written; else empty."""
    base = shard.name[: -len(".tar")] if shard.name.lower().endswith(".tar") else shard.name
    for file, count in ((f"{base}_stats.json", _counted), (f"{base}.parquet", _listed)):
        written = count(shard.with_name(file))
        if written is not None:
            return f"it has {samples:,} samples where {file} counts {written:,}" if samples < written else ""
    return ""


def _counted(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        stats = json.loads(file.read_bytes())
        successes = stats.get("successes") if isinstance(stats, dict) else None
        return successes if type(successes) is int else None
    return None


def _listed(file: Path) -> int | None:
    """Rows whose status is success; None where they cannot be read, as without pyarrow."""
    if not file.is_file():
        return None
    with contextlib.suppress(Exception):  # pyarrow may be absent, and fails in its own ways
        from pyarrow import parquet

        return int(parquet.read_table(file, columns=["status"])["status"].to_pylist().count("success"))
    return None
