"""Accuracy of answers on a downstream task, as zero-shot classification and linear probes report it."""

from __future__ import annotations

import numpy as np

from bench.api import Measurement, Metric, Task, class_mean, share

METRICS = (
    Metric(name="top1", description="test images given their class"),
    Metric(name="mean_per_class", description="the same in each class, averaged, where Radford et al. 2021 report that"),
)


def accuracy(task: Task, answers: np.ndarray) -> list[Measurement]:
    """METRICS of the answers, int (n,), to the task's test images; the second one only on tasks that ask for it."""
    hits = answers == task.test_labels
    measured = [share("top1", task.name, hits)]
    if task.mean_per_class:
        measured.append(class_mean("mean_per_class", task.name, hits, task.test_labels))
    return measured
