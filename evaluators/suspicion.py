"""How well a score separates poisoned from clean examples."""

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
    """METRICS of a finite score, float (n,), that is higher for more suspicious examples; some are poisoned and some clean.

    Intervals are Wilson's: for the AUROC with the size of the rarer class, whose A (1 - A) / min(m, n) bounds its variance, for
    the average precision with the number of poisoned and for the false positives with that of clean examples.
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
