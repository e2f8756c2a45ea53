"""The processes that train one cell together, as `torchrun` starts them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from bench.errors import UserError

T = TypeVar("T")

_POLL_SECONDS = 0.1
_PATIENCE = timedelta(days=1)  # with a process that is alive; one that dies is noticed at once


class Separated(RuntimeError):
    """Training failed on a process of several, so that the others cannot go on either."""


class Ranks:
    """This process's place among them. Alone, which is the default, nothing is ever communicated.

    Tensors go by the default group (NCCL between GPUs, else Gloo), decisions by `control`, a Gloo group, and what the first
    process lets the others do by `store`.
    """

    def __init__(self, rank: int = 0, count: int = 1, control: Any = None, store: Any = None) -> None:
        self.rank = rank
        self.count = count
        self._control = control
        self._store = store
        self._orders = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that decides, writes and measures."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This process's rows of a batch of `total`; all of them where there are fewer rows than processes."""
        if total < self.count:
            return slice(0, total)
        size, more = divmod(total, self.count)
        start = self.rank * size + min(self.rank, more)
        return slice(start, start + size + (self.rank < more))

    def collect(self, mine: torch.Tensor, total: int) -> torch.Tensor:
        """All `total` rows of a batch, of which every process gives its own; without gradient."""
        if self.count == 1 or total < self.count:
            return mine
        largest = -(-total // self.count)
        padded = mine.new_zeros(largest, *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        sizes = [len(range(total)[Ranks(rank, self.count).rows(total)]) for rank in range(self.count)]
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def any(self, flag: bool) -> bool:
        """Whether it is so on any process; the answer is the same on all."""
        if self.count == 1:
            return flag
        found = torch.tensor(flag, dtype=torch.uint8)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._control)
        return bool(found)

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def wait(self) -> None:
        """Go on when every process is here."""
        if self.count > 1:
            dist.barrier(group=self._control)

    def tell(self, order: str | None) -> None:
        """Let every other process hear `order`, whenever it listens."""
        if self.count > 1:
            self._store.set(f"order {self._orders}", json.dumps(order))
            self._orders += 1

    def hear(self, stop: Callable[[], bool]) -> str | None:
        """The next order of the first process, however long it takes. `stop()` true raises KeyboardInterrupt."""
        key = f"order {self._orders}"
        while not self._store.check([key]):
            if stop():
                raise KeyboardInterrupt
            time.sleep(_POLL_SECONDS)
        self._orders += 1
        return json.loads(self._store.get(key))


def launched() -> int:
    """How many processes `torchrun` started, of which this is one; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def own_gpu() -> torch.device:
    """The GPU of this process among those of its machine. Raises UserError where there are fewer than processes."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise UserError(
            f"torchrun --nproc-per-node: more processes than the {torch.cuda.device_count()} GPUs; start one for each"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def join(device: torch.device) -> Ranks:
    """Meet the other processes, where `torchrun` started several."""
    if launched() == 1:
        return Ranks()
    store, rank, count = next(iter(dist.rendezvous("env://")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=count)
    return Ranks(rank, count, dist.new_group(backend="gloo", timeout=_PATIENCE), dist.PrefixStore("orders", store))


def leave() -> None:
    """Part from the other processes after work that went well."""
    if dist.is_initialized():
        dist.destroy_process_group()
