"""What the machine gives and what this process takes of it."""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path

import torch

_SIDES = {"cpu": 1024, "cuda": 8192}
_SECONDS = 0.5
_FEWEST = 3


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large square matrix product of `dtype`: the best of half a second."""
    side = _SIDES[device.type]
    left = torch.rand(side, side, device=device).to(dtype)
    best, done, ends = float("inf"), 0, time.perf_counter() + _SECONDS
    while done < _FEWEST or time.perf_counter() < ends:
        wait(device)
        started = time.perf_counter()
        left @ left
        wait(device)
        best, done = min(best, time.perf_counter() - started), done + 1
    return 2 * side**3 / best


def reset_peaks(device: torch.device) -> None:
    """Let the peaks of memory start anew, where the system can (Linux); elsewhere that of the process is its whole life's."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_rss() -> int:
    """Bytes of memory that the process held at most."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_cuda(device: torch.device) -> int | None:
    """Bytes that tensors held at most on the GPU; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
