"""Learning rate over a run."""

from __future__ import annotations

import math


def warmup_cosine(progress: float, epochs: int, warmup_epochs: float) -> float:
    """Factor on the peak learning rate, `progress` epochs into a run of `epochs`: linear warm-up, then cosine to 0.

    A function of epochs, not of steps: it ends at 0 whatever the number of steps in each epoch.
    """
    if progress < warmup_epochs:
        return progress / warmup_epochs
    done = (progress - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
