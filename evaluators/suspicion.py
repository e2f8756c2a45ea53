"""How well a score tells poisoned from clean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from bench.api import Measurement, Metric, wilson

METRICS = (
    Metric(name="auroc", description="chance that a poisoned one is more suspicious than a clean one"),
    Metric(name="average_precision", description="precision, averaged over the poisoned ones from the most suspicious"),
    Metric(name="fpr_at_95_tpr", better="lower", description="clean ones as suspicious as the least of 95% of the poisoned"),
)


def ranked(task: str, suspicion: NDArray[Any], poisoned: NDArray[np.bool_]) -> list[Measurement]:
    """METRICS of a finite score (n,), higher is more suspicious, and what is poisoned; there is some of both.

    Intervals are Wilson's. That of the AUROC is of a share of the rarer kind, which varies no less: A (1 - A) / min(m, n). That
    of the average precision is of a share of the poisoned ones, that of the false positives of the clean ones.
    """
    positives, negatives = int(poisoned.sum()), int((~poisoned).sum())
    rates, hits, _ = roc_curve(poisoned, suspicion, drop_intermediate=False)
    values = {
        "auroc": (roc_auc_score(poisoned, suspicion), min(positives, negatives)),
        "average_precision": (average_precision_score(poisoned, suspicion), positives),
        "fpr_at_95_tpr": (rates[np.argmax(hits >= 0.95)], negatives),
    }
    return [_measured(name, task, float(value), n) for name, (value, n) in values.items()]


def _measured(metric: str, task: str, value: float, n: int) -> Measurement:
    low, high = wilson(value * n, n)
    return Measurement(metric=metric, task=task, value=value, n=n, ci_low=min(low, value), ci_high=max(high, value))
