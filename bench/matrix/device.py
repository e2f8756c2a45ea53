"""The device that a command runs on."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from bench.errors import UserError
from bench.training.ranks import local_gpu, world_size


def device_of(name: str) -> torch.device:
    """The torch device of --device (auto, cpu, cuda, cuda:N or mps); on several ranks, each has its own GPU.

    Raises UserError for another name, and for a device that is not available.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise UserError(f"--device {name}: expected auto, cpu, cuda, cuda:N (a GPU by its number, from 0) or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: PyTorch finds no Apple GPU here; use --device cpu")
    if name.startswith("cuda"):
        _require_cuda(name)
    if name in ("cpu", "mps") or not torch.cuda.is_available():
        return torch.device("mps" if name == "mps" else "cpu")
    if world_size() > 1:
        return local_gpu()
    return torch.device("cuda" if name == "auto" else name)


def emulates_bf16(device: torch.device) -> bool:
    """Whether the device is an x86 CPU without bfloat16 instructions; False if PyTorch cannot tell."""
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    native = known.get("avx512_bf16") or known.get("amx_bf16")
    return device.type == "cpu" and known.get("architecture") == "x86_64" and not native


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work; a no-op on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _require_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: PyTorch finds no usable GPU here; use --device cpu")
    number = int(name.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} GPUs here, numbered from 0")
    if ":" in name and world_size() > 1:
        raise UserError(f"--device {name}: under torchrun each process has its own GPU; use --device cuda")
