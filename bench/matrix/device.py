"""Where tensors lie."""

from __future__ import annotations

import torch

from bench.errors import UserError
from bench.training.ranks import launched, own_gpu


def device_of(name: str) -> torch.device:
    """The device of --device: auto, cpu or cuda; of several processes each has its own GPU.

    Raises UserError when cuda is asked for and there is none, or fewer than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; use --device cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return own_gpu() if launched() > 1 else torch.device("cuda")
