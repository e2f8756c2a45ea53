"""Where tensors lie."""

from __future__ import annotations

import re

import torch

from bench.errors import UserError
from bench.training.ranks import launched, own_gpu


def device_of(name: str) -> torch.device:
    """The device of --device: auto, cpu, cuda, cuda:N or mps; of several processes each has its own GPU.

    Raises UserError for another name, and where what is asked for is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise UserError(f"--device {name}: is auto, cpu, cuda, cuda:N (a GPU by its number, from 0) or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: PyTorch finds no GPU of Apple here; use --device cpu")
    if name.startswith("cuda"):
        _require_cuda(name)
    if name in ("cpu", "mps") or not torch.cuda.is_available():
        return torch.device("mps" if name == "mps" else "cpu")
    if launched() > 1:
        return own_gpu()
    return torch.device("cuda" if name == "auto" else name)


def _require_cuda(name: str) -> None:
    if not torch.cuda.is_available():
        raise UserError(f"--device {name}: PyTorch finds no usable GPU here; use --device cpu")
    number = int(name.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there are {torch.cuda.device_count()} GPUs here, counted from 0")
    if ":" in name and launched() > 1:
        raise UserError(f"--device {name}: within torchrun each process has a GPU of its own; write --device cuda")
