"""Peak speed of the machine, and peak memory of this process."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path

import torch

from bench.matrix.device import synchronize

_SECONDS = 0.5
_MIN_PRODUCTS = 3


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Peak FLOP/s of a large square matrix product of `dtype`, within half a second."""
    side = 1024 if device.type == "cpu" else 8192
    left = torch.rand(side, side, device=device).to(dtype)
    best, done, deadline = float("inf"), 0, time.perf_counter() + _SECONDS
    while done < _MIN_PRODUCTS or time.perf_counter() < deadline:
        synchronize(device)
        started = time.perf_counter()
        left @ left
        synchronize(device)
        best, done = min(best, time.perf_counter() - started), done + 1
    return 2 * side**3 / best


def reset_peaks(device: torch.device) -> None:
    """Reset peak memory. The host's can be reset on Linux alone; elsewhere it is the peak since the process started."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_rss() -> int:
    """Peak resident memory of the process in bytes."""
    if (peak := _status("VmHWM")) is not None:
        return peak
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def mapped_files() -> int:
    """Memory of the process in bytes that is files read in place, such as libraries; 0 except on Linux."""
    return _status("RssFile") or 0


def _status(name: str) -> int | None:
    """A figure of this process in bytes, as Linux gives it; None elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def peak_cuda(device: torch.device) -> int | None:
    """Peak GPU memory of tensors in bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
