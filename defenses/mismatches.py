"""Planted mismatches: whether a model tells what belongs together from what does not, without knowing the poison."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bench.api import Scorer

SAMPLE = 1024
"""Pairs: at chance the AUC of as many mismatches then has a standard deviation of 0.013."""
LEAST_AUC = 0.6
"""What counts as better than chance: 8 such deviations above it."""


def planted(
    scorer: Scorer, pairs: int, rng: Callable[[str], np.random.Generator]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Similarities of sampled images with their captions and with captions of other pairs: float32 (n,) each.

    Some of the other captions are right by chance, in a tenth of the cases where images show ten classes evenly.
    """
    chosen = rng("mismatches").permutation(pairs)[:SAMPLE]
    return coupled(*scorer.embeddings(chosen))


def coupled(one: torch.Tensor, other: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine similarities of unit rows (n, d) with those in the same place and in the one before: float32 (n,) each."""
    same, shifted = (one * other).sum(dim=1), (one * other.roll(1, dims=0)).sum(dim=1)
    return same.cpu().numpy(), shifted.cpu().numpy()


def auc(matches: NDArray[np.float32], mismatches: NDArray[np.float32]) -> float:
    """How often a match is more similar than a mismatch, over all couples of the two; ties count half, as what is no number."""
    of_match = np.repeat([True, False], [len(matches), len(mismatches)])
    return float(roc_auc_score(of_match, np.nan_to_num(np.concatenate([matches, mismatches]))))
