"""How many cells run side by side, and what of the machine each has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from bench import plugins
from bench.errors import UserError
from bench.training.ranks import launched

_AUTO = "auto"


@dataclass(frozen=True)
class Share:
    """`count` cells at a time, each on `threads` CPU threads (None leaves them as they are) and on one of `gpus`, if any."""

    count: int = 1
    threads: int | None = None
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        on = "a GPU" if self.gpus else f"{self.threads} CPU thread{'s' * (self.threads != 1)}"
        return f"{self.count} cells side by side, each on {on}" if self.count > 1 else f"one cell at a time, on {on}"

    @property
    def spare(self) -> bool:
        """Whether a cell that is alone leaves cores idle."""
        return self.threads is not None and self.count * self.threads < cores()

    @classmethod
    def of(cls, jobs: str | None, device: torch.device, cells: int) -> Share:
        """From --jobs, for `cells` that are to be done.

        On a CPU each has one thread, or as many as OMP_NUM_THREADS says, however many cells there are: the number of threads
        changes how sums are rounded. `--jobs 1` leaves PyTorch all of them. Raises UserError where another process would not
        know a plugin.
        """
        asked = parsed(jobs)
        if asked == 1 or launched() > 1:
            return cls()
        if here := plugins.only_here():
            if asked:
                raise UserError(f"--jobs {asked}: no other process knows {here[0]}; put it in a file for --plugin, or use 1")
            cells = 1
        given = _number(os.environ.get("OMP_NUM_THREADS", ""))
        if device.type == "cuda":
            gpus = _gpus() if device.index is None else (_gpus()[device.index],)
            count = max(1, min(asked or len(gpus), cells))
            return cls(count, given or max(1, cores() // count), gpus) if count > 1 else cls()
        if device.type == "mps":
            return cls()
        threads = given or 1
        return cls(max(1, min(asked or cores() // threads, cells)), threads)

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Hold this process to the threads of one cell."""
        if self.threads is None:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                yield
        finally:
            torch.set_num_threads(before)


def parsed(jobs: str | None) -> int | None:
    """The number of --jobs, where it is not given of BENCH_JOBS; None for auto.

    Raises UserError for anything else, and for several within torchrun.
    """
    jobs = jobs or os.environ.get("BENCH_JOBS") or _AUTO
    if jobs == _AUTO:
        return None
    if not jobs.isascii() or not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"--jobs {jobs}: write a whole number from 1, or auto")
    if int(jobs) > 1 and launched() > 1:
        raise UserError(f"--jobs {jobs}: within torchrun all processes train one cell together; leave it out")
    return int(jobs)


def cores() -> int:
    """CPU cores that this process may use, at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    return min(count, _quota(Path("/sys/fs/cgroup/cpu.max")) or count)


def _quota(file: Path) -> int | None:
    """Whole cores that the limit of a container leaves, at least 1 (Linux control groups, version 2); None without one."""
    try:
        quota, period = file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _number(text: str) -> int | None:
    found = re.match(r"[1-9]\d*", text.strip())
    return int(found[0]) if found else None


def _gpus() -> tuple[str, ...]:
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named or map(str, range(torch.cuda.device_count())))
