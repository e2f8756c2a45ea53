"""Two models compared on the same probes of one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special


@dataclass(frozen=True)
class Discordance:
    """Probes, those of them that only the first or only the second model takes for the adversary's class, and McNemar's p."""

    probes: int
    first: int
    second: int
    p: float


def discordance(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Discordance:
    """Compare successes of the attack, bool (probes,) each, the same probes at the same places.

    McNemar's exact test: of the probes on which models differ that are equally often taken for the adversary's class, the
    first's alone are binomial with 1/2. Two-sided; 1 where they differ on none. It takes the probes of a seed for independent,
    and says nothing of another training.
    """
    alone, other = int((first & ~second).sum()), int((second & ~first).sum())
    tail = float(special.bdtr(min(alone, other), alone + other, 0.5))
    return Discordance(len(first), alone, other, min(1.0, 2 * tail))
