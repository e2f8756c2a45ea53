"""The processes (ranks) that train one cell together, as `torchrun` starts them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from bench.errors import UserError

T = TypeVar("T")

_POLL_SECONDS = 0.1
_TIMEOUT = timedelta(days=1)  # for a rank that is alive; one that dies is noticed immediately


class RankFailure(RuntimeError):
    """Training failed on one of several ranks, so none can continue."""


class Ranks:
    """This process's rank and its means of communication. The default is a single process, which never communicates.

    Tensors go through the default process group (NCCL between GPUs, else Gloo), decisions through the Gloo group `control`,
    and commands of rank 0 through the key-value store `store`.
    """

    def __init__(self, rank: int = 0, count: int = 1, control: Any = None, store: Any = None) -> None:
        self.rank = rank
        self.count = count
        self._control = control
        self._store = store
        self._commands = 0

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which decides, writes and evaluates."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This rank's rows of a batch of `total`; all of them if there are fewer rows than ranks."""
        if total < self.count:
            return slice(0, total)
        size, extra = divmod(total, self.count)
        start = self.rank * size + min(self.rank, extra)
        return slice(start, start + size + (self.rank < extra))

    def gather(self, mine: torch.Tensor, total: int) -> torch.Tensor:
        """All-gather the `total` rows of a batch, in order; without gradient."""
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
        """Whether `flag` is true on any rank; the same answer on all."""
        if self.count == 1:
            return flag
        found = torch.tensor(flag, dtype=torch.uint8)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._control)
        return bool(found)

    def broadcast(self, value: T) -> T:
        """Rank 0's `value`, on all ranks."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        if self.count > 1:
            dist.barrier(group=self._control)

    def send(self, command: str | None) -> None:
        """Send a command from rank 0 to every other rank, without waiting for them."""
        if self.count > 1:
            self._store.set(f"command {self._commands}", json.dumps(command))
            self._commands += 1

    def receive(self, stop: Callable[[], bool]) -> str | None:
        """Wait for the next command of rank 0, without a timeout. Raises KeyboardInterrupt once `stop()` is true."""
        key = f"command {self._commands}"
        while not self._store.check([key]):
            if stop():
                raise KeyboardInterrupt
            time.sleep(_POLL_SECONDS)
        self._commands += 1
        return cast("str | None", json.loads(self._store.get(key)))


def world_size() -> int:
    """The number of processes that `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_gpu() -> torch.device:
    """The GPU of this process on its machine. Raises UserError if there are fewer GPUs than processes."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise UserError(
            f"torchrun --nproc-per-node: more processes than the {torch.cuda.device_count()} GPUs; start one for each"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def join(device: torch.device) -> Ranks:
    """Join the process group of `torchrun`, if it started several processes."""
    if world_size() == 1:
        return Ranks()
    store, rank, count = next(iter(rendezvous("env://")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=count)
    commands = PrefixStore("commands", store)
    return Ranks(rank, count, dist.new_group(backend="gloo", timeout=_TIMEOUT), commands)


def leave() -> None:
    """Leave the process group after a successful run."""
    if dist.is_initialized():
        dist.destroy_process_group()
