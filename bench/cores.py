"""The CPU cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores() -> int:
    """CPU cores that this process may use, at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    return min(count, _quota(Path("/sys/fs/cgroup/cpu.max")) or count)


def _quota(file: Path) -> int | None:
    """Whole cores within a container's limit, at least 1 (Linux cgroups v2); None if unlimited."""
    try:
        quota, period = file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
