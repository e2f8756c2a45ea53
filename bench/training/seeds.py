"""Global random number generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from bench import keys


def seed_everything(*parts: Any) -> None:
    """Seed every global generator from `parts`, so that no random state has to be checkpointed."""
    seed = keys.seed_of(*parts)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
