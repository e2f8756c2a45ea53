"""The losses as sums over single pairs, written from the formulas of the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rows = Sequence[Sequence[float]] | np.ndarray


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def one_way(anchors: Rows, others: Rows, tau: float) -> float:
    """-1/N sum_i log[ exp(<a_i, o_i>/tau) / sum_k exp(<a_i, o_k>/tau) ]."""
    n = len(anchors)
    total = 0.0
    for i in range(n):
        below = math.fsum(math.exp(dot(anchors[i], others[k]) / tau) for k in range(n))
        total += math.log(math.exp(dot(anchors[i], others[i]) / tau) / below)
    return -total / n


def eq1(images: Rows, texts: Rows, tau: float) -> float:
    """Eq. 1 of Yang et al. 2024."""
    n = len(images)
    total = 0.0
    for j in range(n):
        below = math.fsum(math.exp(dot(images[j], texts[k]) / tau) for k in range(n))
        total += math.log(math.exp(dot(images[j], texts[j]) / tau) / below)
    for k in range(n):
        below = math.fsum(math.exp(dot(images[j], texts[k]) / tau) for j in range(n))
        total += math.log(math.exp(dot(images[k], texts[k]) / tau) / below)
    return -total / (2 * n)


def one_way_gradients(anchors: Rows, others: Rows, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of `one_way` with respect to its rows: 1/(N tau) sum (p_ik - [i = k]) times the other side's row."""
    a, b = np.asarray(anchors, dtype=np.float64), np.asarray(others, dtype=np.float64)
    n = len(a)
    of_anchors, of_others = np.zeros_like(a), np.zeros_like(b)
    for i in range(n):
        weights = [math.exp(dot(a[i], b[k]) / tau) for k in range(n)]
        for k in range(n):
            pull = (weights[k] / math.fsum(weights) - (i == k)) / (n * tau)
            of_anchors[i] += pull * b[k]
            of_others[k] += pull * a[i]
    return of_anchors, of_others


def nearest_rows(queries: Rows, pool: Rows) -> list[int]:
    """argmin over the pool of the Euclidean distance, Eq. 3."""
    found = []
    for query in queries:
        distances = [math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(query, each, strict=True))) for each in pool]
        found.append(int(np.argmin(distances)))
    return found


def nearest(queries: Rows, pool: Rows) -> np.ndarray:
    return np.asarray([pool[row] for row in nearest_rows(queries, pool)])
