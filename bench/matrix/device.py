"""The device that a command runs on."""

from __future__ import annotations

import torch

from bench.errors import UserError
from bench.training.ranks import local_gpu, world_size


def device_of(name: str) -> torch.device:
    """The device of --device: auto, cpu or cuda; of several processes each has its own GPU.

    Raises UserError when cuda is asked for and there is none, or fewer than processes.
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
