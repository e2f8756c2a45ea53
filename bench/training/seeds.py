"""Global generators of random numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from bench import keys


def seed_everything(*parts: Any) -> None:
    """Let the state of every global generator follow from `parts`, so that none has to be kept."""
    seed = keys.seed_of(*parts)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
