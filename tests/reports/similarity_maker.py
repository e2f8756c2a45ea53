"""Similarities as runs record them: examples for every defense, a mixture for SafeCLIP, and none in old records."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

Record = dict[str, Any]
LABELS = ["red ball 1", "red ball 2", "blue pyramid 1", "blue pyramid 2", "striped cylinder 1", "striped cylinder 2", "poison"]
CLASSES = [0, 0, 1, 1, 2, 2, 3]
PAIRS, POISONS, SAMPLE = 16_000, 160, 2_048
LOWER, UPPER = (0.14, 0.07, 0.3), (0.43, 0.09, 0.7)


def examples(defense: str, label: str = LABELS[0]) -> Record:
    """Matching pairs are similar, pairs of one class somewhat. Under SafeCLIP the poisoned pair is not."""
    poison = 0.02 if defense.startswith("safeclip") else 0.81
    rows = []
    for row, of_row in enumerate(CLASSES):
        wobble = [((5 * row + 3 * column) % 7 - 3) / 40 for column in range(7)]
        near = [0.78 if row == column else 0.47 if of_row == other else 0.06 for column, other in enumerate(CLASSES)]
        rows.append([a + b for a, b in zip(near, wobble, strict=True)])
    rows[6][6] = poison
    return {"labels": [label, *LABELS[1:]], "values": rows}


def histogram(pairs: int, *components: tuple[float, float, float]) -> list[int]:
    """Expected counts of a mixture of (mean, std, weight) in 40 equal bins over [-1, 1]."""
    edges = [at / 20 - 1 for at in range(41)]
    below = [sum(weight * statistics.NormalDist(mean, std).cdf(e) for mean, std, weight in components) for e in edges]
    return [round(pairs * (b - a)) for a, b in itertools.pairwise(below)]


def first_look() -> Record:
    """The similarities after the first epoch: the poisons and a sample of the clean pairs."""
    return {
        "similarity_clean": histogram(SAMPLE, (0.42, 0.11, 1.0)),
        "similarity_poison": histogram(POISONS, (0.36, 0.12, 1.0)),
    }


def split(degenerate: bool = False) -> Record:
    """The similarities in SafeCLIP's runs after its first split."""
    (low_mean, low_std, low_weight), (high_mean, high_std, _) = LOWER, UPPER
    return {
        "similarity_clean": histogram(PAIRS - POISONS, LOWER, UPPER),
        "similarity_poison": histogram(POISONS, (0.12, 0.09, 1.0)),
        "gmm_lower_mean": low_mean, "gmm_lower_std": low_std, "gmm_lower_weight": low_weight,
        "gmm_upper_mean": high_mean, "gmm_upper_std": high_std, "gmm_degenerate": float(degenerate),
        "safe_cut": 0.31, "safe_share": 0.625, "safe_poisons": 3, "safe_poison_rate": 0.0003, "safe_poison_recall": 3 / 160,
    }  # fmt: skip
