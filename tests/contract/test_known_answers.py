"""Evaluators on models with known predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.api import Images, Measurement, Vocabulary
from bench.registry import evaluators
from bench.testing import small

_CLASSES = 16


@dataclass
class Oracle:
    """Classifies image i of every set as class `answers[i]`."""

    answers: Any

    def image_features(self, images: Images) -> torch.Tensor:
        return F.one_hot(torch.as_tensor(self.answers(images)), _CLASSES).float()

    def classifier(self, vocabulary: Vocabulary) -> torch.Tensor:
        return torch.eye(_CLASSES)[: len(vocabulary.names)]


def _evaluate(name: str, model: Oracle, clean: Oracle | None = None, tasks: int = 1) -> dict[str, Measurement]:
    entry = evaluators[name]
    ctx = small.eval_context(entry)
    bundle = replace(ctx.bundle, tasks=ctx.bundle.tasks[:tasks])
    changed: Any = replace(ctx, bundle=bundle, model=model, clean_model=lambda: clean)
    return {each.metric: each for each in entry.plugin(small.params_of(entry)).evaluate(changed)}


def _truth(images: Images) -> Any:
    task = small.bundle().tasks[0]
    return task.train_labels if images is task.train_images else task.test_labels


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("name", ["zero_shot", "linear_probe"])
def test_accuracy_of_a_model_that_is_always_right(name: str) -> None:
    assert _evaluate(name, Oracle(_truth))["top1"].value == 1


@pytest.mark.usefixtures("registries")
def test_zero_shot_of_a_model_that_always_predicts_one_class() -> None:
    labels = small.bundle().tasks[0].test_labels
    found = _evaluate("zero_shot", Oracle(lambda images: np.full(len(images), 3)))["top1"]
    assert (found.value, found.n) == (np.mean(labels == 3), len(labels))


@pytest.mark.usefixtures("registries")
def test_asr_of_a_model_that_always_predicts_the_target() -> None:
    fooled, honest = Oracle(lambda images: np.zeros(len(images), int)), Oracle(lambda images: np.ones(len(images), int))
    found = _evaluate("asr", fooled, honest)
    assert (found["asr"].value, found["asr_floor"].value, found["triggered_top1"].value) == (1, 0, 0)
    shown = [members for members in small.bundle().test.members if 0 not in members]
    assert found["asr"].n == len(shown)
    again = _evaluate("asr", honest, fooled)
    assert (again["asr"].value, again["asr_floor"].value) == (0, 1)
    assert again["triggered_top1"].value == np.mean([1 in members for members in shown])
