"""How many cells run in parallel, and the CPU threads or GPU of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits

from bench import plugins
from bench.cores import available_cores
from bench.errors import UserError
from bench.training.ranks import world_size

_AUTO = "auto"


@dataclass(frozen=True)
class JobSlots:
    """`count` cells at a time, each on `threads` CPU threads (None: PyTorch's default) and on one of `gpus`, if any."""

    count: int = 1
    threads: int | None = None
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        on = "a GPU" if self.gpus else f"{self.threads} CPU thread{'s' * (self.threads != 1)}"
        return f"{self.count} cells in parallel, each on {on}" if self.count > 1 else f"one cell at a time, on {on}"

    @property
    def leaves_cores_idle(self) -> bool:
        return self.threads is not None and self.count * self.threads < available_cores()

    @classmethod
    def of(cls, jobs: str | None, device: torch.device, cells: int) -> JobSlots:
        """From --jobs, for `cells` pending cells.

        On a CPU each cell has one thread, or OMP_NUM_THREADS of them, however many cells there are: sums are rounded
        differently with another number of threads. `--jobs 1` keeps PyTorch's default. Raises UserError if a plugin is not
        known to other processes.
        """
        jobs_wanted = parse_jobs(jobs)
        if jobs_wanted == 1 or world_size() > 1:
            return cls()
        if local := plugins.process_local():
            if jobs_wanted:
                raise UserError(
                    f"--jobs {jobs_wanted}: other processes do not know {local[0]}; put it in a file for --plugin, or use 1"
                )
            cells = 1
        threads_set = _number(os.environ.get("OMP_NUM_THREADS", ""))
        if device.type == "cuda":
            gpus = _gpus() if device.index is None else (_gpus()[device.index],)
            count = max(1, min(jobs_wanted or len(gpus), cells))
            return cls(count, threads_set or max(1, available_cores() // count), gpus) if count > 1 else cls()
        if device.type == "mps":
            return cls()
        threads = threads_set or 1
        return cls(max(1, min(jobs_wanted or available_cores() // threads, cells)), threads)

    @contextmanager
    def limit_threads(self) -> Iterator[None]:
        """Limit this process to the threads of one cell."""
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


def parse_jobs(jobs: str | None) -> int | None:
    """The number of --jobs, by default that of BENCH_JOBS; None is auto.

    Raises UserError for anything else, and for more than one under torchrun.
    """
    jobs = jobs or os.environ.get("BENCH_JOBS") or _AUTO
    if jobs == _AUTO:
        return None
    if not jobs.isascii() or not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"--jobs {jobs}: expected a positive integer or auto")
    if int(jobs) > 1 and world_size() > 1:
        raise UserError(f"--jobs {jobs}: under torchrun all processes train one cell together; omit --jobs")
    return int(jobs)


def _number(text: str) -> int | None:
    found = re.match(r"[1-9]\d*", text.strip())
    return int(found[0]) if found else None


def _gpus() -> tuple[str, ...]:
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named or map(str, range(torch.cuda.device_count())))
