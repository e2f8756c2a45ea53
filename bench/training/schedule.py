"""The learning-rate schedule."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, epochs: int, warmup_epochs: float) -> float:
    """Factor of the peak learning rate at `progress` epochs: linear warm-up, then cosine decay to 0.

    A function of epochs, not of steps, so that it ends at 0 if the number of steps per epoch varies.
    """
    if progress < warmup_epochs:
        return progress / warmup_epochs
    done = (progress - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
