"""What only someone who knows the poison can say about a defense; computed outside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 40


def poison_telemetry(observed: Mapping[str, NDArray[Any]], poisoned: NDArray[np.bool_]) -> dict[str, Any]:
    """Poisons among the pairs a defense takes for safe, and similarities of clean and poisoned pairs as histograms.

    safe_poisons: a count; safe_poison_rate: their share of the safe set; safe_poison_recall: the share of all poisons that is
    in it; similarity_clean, similarity_poison: counts in `BINS` equal bins over [-1, 1].
    """
    found: dict[str, Any] = {}
    if "safe" in observed:
        safe = observed["safe"]
        inside = int((safe & poisoned).sum())
        found["safe_poisons"] = inside
        found["safe_poison_rate"] = inside / max(1, int(safe.sum()))
        found["safe_poison_recall"] = inside / max(1, int(poisoned.sum()))
    if "similarity" in observed:
        for name, rows in (("clean", ~poisoned), ("poison", poisoned)):
            counts, _ = np.histogram(np.clip(observed["similarity"][rows], -1, 1), bins=BINS, range=(-1, 1))
            found[f"similarity_{name}"] = counts.tolist()
    return found
