"""The device that a command runs on."""

from __future__ import annotations

import torch

from bench.errors import UserError
from bench.training.ranks import local_gpu, world_size


def device_of(name: str) -> torch.device:
    """The torch device of --device (auto, cpu or cuda); on several ranks, each has its own GPU.

    Raises UserError for cuda without a GPU, or with fewer GPUs than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return local_gpu() if world_size() > 1 else torch.device("cuda")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work; a no-op on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
