"""Lower bounds on the memory of a training step, and the memory that is free.

A GPU out of memory raises an error, but Linux kills a process out of host memory, if it does not stall the machine first.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from bench.errors import UserError
from bench.models.encoder import ClipEncoder

GPU_PIXELS = "BENCH_GPU_PIXELS"
MEMORY_HINT = "--set train.batch_size=..., a smaller --model, --precision bf16 or --grad-checkpointing needs less"

_PROBED = 2
_BYTES = 4
_COPIES = 3  # per weight: its gradient and the two moments of AdamW


def on_gpu(images: int, side: int, device: torch.device) -> bool:
    """Whether a training set's images go to a GPU as a whole, as BENCH_GPU_PIXELS, a limit in GB, says; by default they do not.

    Raises UserError if that is no number, and MemoryError if they fit in the limit, but not in what is free.
    """
    given = os.environ.get(GPU_PIXELS) or "0"
    needed = images * 3 * side**2
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise UserError(f"{GPU_PIXELS}={given}: expected the GB of a GPU that images may take, for example 20")
    if device.type != "cuda" or needed > limit * 1e9:
        return False
    if needed > (free := free_bytes(device)):
        raise MemoryError(
            f"{GPU_PIXELS}={given}: the images take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the GPU are free"
        )
    return True


def require_memory(encoder: ClipEncoder, side: int, batch_size: int) -> None:
    """Raise MemoryError if a step on `batch_size` pairs, with square images of `side` pixels, does not fit in free memory."""
    needed, free = step_bytes(encoder, side, batch_size), free_bytes(encoder.device)
    if needed > free:
        raise MemoryError(
            f"a step on {batch_size} pairs needs at least {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        )


def step_bytes(encoder: ClipEncoder, side: int, batch_size: int) -> int:
    """A lower bound of a step's bytes beyond the weights: saved activations, gradients and moments of AdamW."""
    each = (_saved_for_backward(encoder, side, 2 * _PROBED) - _saved_for_backward(encoder, side, _PROBED)) / _PROBED
    weights = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    return round(each * batch_size) + _COPIES * _BYTES * weights


def _saved_for_backward(encoder: ClipEncoder, side: int, pairs: int) -> int:
    """Bytes of the tensors that autograd saves in one forward pass of both towers."""
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(pairs, 3, side, side, device=encoder.device)
    tokens = encoder.cut(torch.zeros(pairs, encoder.model.context_length, dtype=torch.int64)).to(encoder.device)
    training = encoder.training
    encoder.eval()  # keeps the running statistics of batch normalisation
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graphs = encoder.encode_image(images), encoder.encode_text(tokens)
    encoder.train(training)
    del graphs
    return sum(saved.values())


def free_bytes(device: torch.device) -> float:
    """Bytes that this process can still allocate; infinite if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_free_host_bytes(), _free_cgroup_bytes(Path("/sys/fs/cgroup")))


def _free_host_bytes() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def _free_cgroup_bytes(folder: Path) -> float:
    """Bytes within the limit of a container or batch job (Linux cgroups v2); inactive file cache counts as free."""
    try:
        limit, used = (folder / "memory.max").read_text(), (folder / "memory.current").read_text()
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(limit) - int(used) + int(statistics["inactive_file"])
    except (OSError, ValueError, KeyError):
        return math.inf
