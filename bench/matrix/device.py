"""Where tensors lie."""

from __future__ import annotations

import torch

from bench.errors import UserError


def device_of(name: str) -> torch.device:
    """The device of --device: auto, cpu or cuda. Raises UserError when cuda is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
