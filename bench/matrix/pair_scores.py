"""How suspicious a defense finds each training pair, beside what was poisoned: `scores.safetensors` in a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from bench.api import Defense
from bench.disk import atomic_write

FILE = "scores.safetensors"


@dataclass(frozen=True)
class PairScores:
    """Of every training pair, in the order of training.

    score: float32 (pairs,), higher is more suspicious, NaN where a pair was not scored; poisoned: bool (pairs,);
    kept: the pairs that the defense trusts at its own threshold, bool (pairs,), None if it has none.
    """

    score: NDArray[np.float32]
    poisoned: NDArray[np.bool_]
    kept: NDArray[np.bool_] | None


def write(folder: Path, defense: Defense, poisoned: NDArray[np.bool_]) -> None:
    """Put the scores of a trained defense in a run's folder, where it gives any."""
    scores = defense.scores()
    if scores is None:
        return
    values: dict[str, NDArray[Any]] = {"score": np.array(scores, dtype=np.float32), "poisoned": poisoned.astype(np.uint8)}
    observed = defense.observed()
    if "safe" in observed:
        values["kept"] = np.array(observed["safe"], dtype=np.uint8)
    with atomic_write(folder / FILE) as stream:
        stream.write(save(values))


def read(folder: Path) -> PairScores | None:
    """What `write` put there; None if there is none, or none that can be read."""
    try:
        values = load_file(folder / FILE)
        kept = values.get("kept")
        return PairScores(values["score"], values["poisoned"].astype(bool), None if kept is None else kept.astype(bool))
    except (OSError, SafetensorError, KeyError):
        return None
