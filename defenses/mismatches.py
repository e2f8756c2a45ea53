"""Planted mismatches: does a model separate matching from mismatched pairs? Measured without knowledge of the poison."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bench.api import Scorer

SAMPLE = 1024
"""Number of pairs; the AUC at chance level then has a standard deviation of 0.013."""
LEAST_AUC = 0.6
"""The smallest AUC that counts as better than chance: 8 standard deviations above it."""


def planted(
    scorer: Scorer, pairs: int, rng: Callable[[str], np.random.Generator]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine similarities of sampled images to their own captions and to captions of other pairs.

    Some of the other captions are correct by chance: a tenth of them with ten balanced classes.

    Returns
    -------
    matches, mismatches : float32 (n,)
    """
    chosen = rng("mismatches").permutation(pairs)[:SAMPLE]
    return paired_and_shifted(*scorer.embeddings(chosen))


def paired_and_shifted(one: torch.Tensor, other: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine similarities of unit rows (n, d) to the same rows and to the previous rows of `other`: float32 (n,) each."""
    same, shifted = (one * other).sum(dim=1), (one * other.roll(1, dims=0)).sum(dim=1)
    return same.cpu().numpy(), shifted.cpu().numpy()


def auc(matches: NDArray[np.float32], mismatches: NDArray[np.float32]) -> float:
    """ROC AUC: how often a match is more similar than a mismatch. Ties count half; NaN counts as 0."""
    of_match = np.repeat([True, False], [len(matches), len(mismatches)])
    return float(roc_auc_score(of_match, np.nan_to_num(np.concatenate([matches, mismatches]))))
