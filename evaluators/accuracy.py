"""Accuracy on a downstream task, for zero-shot classification and linear probes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.api import EvalContext, Measurement, Metric, Predictions, Task, class_mean, share

METRICS = (
    Metric(name="top1", description="accuracy on the test images"),
    Metric(
        name="mean_per_class", description="mean of the accuracies of the classes, on tasks where Radford et al. 2021 report it"
    ),
)


def accuracy(ctx: EvalContext, task: Task, predictions: NDArray[np.int64]) -> list[Measurement]:
    """Compute METRICS and keep the predictions; `mean_per_class` only for tasks that ask for it.

    Parameters
    ----------
    ctx : EvalContext
        Keeps the predictions.
    task : Task
        The downstream task.
    predictions : int64 (n,)
        Predicted class of each test image.
    """
    ctx.keep(Predictions(task.name, task.vocabulary.names, task.test_uids, predictions, true=task.test_labels))
    hits = predictions == task.test_labels
    measured = [share("top1", task.name, hits)]
    if task.mean_per_class:
        measured.append(class_mean("mean_per_class", task.name, hits, task.test_labels))
    return measured
