"""What a step of training needs of memory at the least, and what is free.

Where memory runs out, a GPU raises an error, but Linux ends the process, if it does not stall the machine first.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from bench.models.encoder import ClipEncoder

LESS_MEMORY = "--set train.batch_size=..., a smaller --model or --precision bf16 needs less, as does --grad-checkpointing"

_PROBED = 2
_BYTES = 4
_COPIES = 3  # of each weight: its gradient and the two moments of AdamW


def require_memory(encoder: ClipEncoder, side: int, batch_size: int) -> None:
    """Raise MemoryError where a step on `batch_size` pairs, of images of `side` pixels, cannot have the memory it needs."""
    needed, free = step_bytes(encoder, side, batch_size), free_bytes(encoder.device)
    if needed > free:
        raise MemoryError(
            f"a step on {batch_size} pairs needs at least {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        )


def step_bytes(encoder: ClipEncoder, side: int, batch_size: int) -> int:
    """Bytes, beside the weights, that a step cannot do without: what backward needs of every pair, gradients and moments."""
    each = (_kept_for_backward(encoder, side, 2 * _PROBED) - _kept_for_backward(encoder, side, _PROBED)) / _PROBED
    weights = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    return round(each * batch_size) + _COPIES * _BYTES * weights


def _kept_for_backward(encoder: ClipEncoder, side: int, pairs: int) -> int:
    """Bytes of the tensors that autograd keeps of one pass of both towers."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(pairs, 3, side, side, device=encoder.device)
    tokens = torch.zeros(pairs, encoder.model.context_length, dtype=torch.int64, device=encoder.device)
    training = encoder.training
    encoder.eval()  # leaves the statistics of batch normalisation alone
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graphs = encoder.encode_image(images), encoder.encode_text(tokens)
    encoder.train(training)
    del graphs
    return sum(kept.values())


def free_bytes(device: torch.device) -> float:
    """Bytes that this process can still take; infinite where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_free_of_machine(), _free_of_group(Path("/sys/fs/cgroup")))


def _free_of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def _free_of_group(folder: Path) -> float:
    """What the limit of a container or a cluster's job leaves (Linux control groups, version 2); file cache can be given up."""
    try:
        limit, used = (folder / "memory.max").read_text(), (folder / "memory.current").read_text()
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(limit) - int(used) + int(statistics["inactive_file"])
    except (OSError, ValueError, KeyError):
        return math.inf
