"""The CPU cores that this process may use, and the threads that load images on them."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import UserError

LOAD_THREADS = "BENCH_LOAD_THREADS"


def available_cores() -> int:
    """CPU cores that this process may use, at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    return min(count, _quota(Path("/sys/fs/cgroup/cpu.max")) or count)


def load_threads() -> int:
    """Threads that read and decode images: as many as BENCH_LOAD_THREADS says, by default one for each available core.

    Raises UserError if that is no positive integer.
    """
    given = os.environ.get(LOAD_THREADS, "")
    if not given:
        return available_cores()
    if not given.isascii() or not given.isdecimal() or int(given) < 1:
        raise UserError(f"{LOAD_THREADS}={given}: expected a positive integer")
    return int(given)


def _quota(file: Path) -> int | None:
    """Whole cores within a container's limit, at least 1 (Linux cgroups v2); None if unlimited."""
    try:
        quota, period = file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
