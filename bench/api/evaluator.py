"""The API of evaluators: metrics of a trained model, each with n and a 95% confidence interval."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench import intervals

from .attack import Probe, Query, Surrogate
from .data import DatasetBundle, Images, Vocabulary
from .plugin import Params, Plugin
from .predictions import Predictions


class Metric(BaseModel):
    """What is measured.

    `role` says what reports do with it. A "number" is a column of the table. A "curve", whose tasks are the numbers of an axis
    that `axis` names, is drawn. A "model" is a column and also a score of the model: its worse values call the model
    poisoned, and reports give the AUROC between models trained without an attack and with one.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    unit: str = "fraction"
    better: Literal["lower", "higher", "neither"] = "higher"
    description: str = ""
    role: Literal["number", "curve", "model"] = "number"
    axis: str = ""


class Measurement(BaseModel):
    """One number with its 95% interval; `task` names the downstream task or the trigger group."""

    model_config = ConfigDict(frozen=True)
    metric: str
    task: str
    value: float
    n: int
    ci_low: float
    ci_high: float


class FrozenModel(Protocol):
    """A trained model in evaluation mode; its features are on the CPU, and evaluators share its cache of them."""

    def image_features(self, images: Images) -> torch.Tensor:
        """Unit embeddings of all images: float32 (n, d)."""
        ...

    def text_features(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit embeddings of one or more captions: float32 (n, d). Not cached."""
        ...

    def classifier(self, vocabulary: Vocabulary) -> torch.Tensor:
        """Zero-shot class embeddings: mean of the prompts' unit embeddings, renormalised; float32 (classes, d)."""
        ...


class PairScores(Protocol):
    """What a defense made of its training pairs, and what is true of them.

    score: float32 (pairs,), higher is more suspicious, NaN where a pair was not scored; kept: the pairs that it trusts at its
    own threshold, bool (pairs,), None if it has none; poisoned: bool (pairs,).
    """

    @property
    def score(self) -> NDArray[np.float32]: ...

    @property
    def kept(self) -> NDArray[np.bool_] | None: ...

    @property
    def poisoned(self) -> NDArray[np.bool_]: ...


class EvalContext(Protocol):
    """What an evaluator may use."""

    bundle: DatasetBundle
    model: FrozenModel
    seed: int

    @property
    def probes(self) -> Sequence[Probe]:
        """The attack's evaluation images; none without an attack."""
        ...

    @property
    def queries(self) -> Sequence[Query]:
        """The attack's evaluation texts; none if it has none."""
        ...

    @property
    def poisons(self) -> int:
        """How many training pairs the attack poisoned; 0 where there is no attack."""
        ...

    def pair_scores(self) -> PairScores:
        """How suspicious the defense found each training pair. Raises UserError if the run kept none."""
        ...

    def surrogate(self) -> Surrogate:
        """The model of the cell in float32, with gradients to the pixels."""
        ...

    def clean_model(self) -> FrozenModel:
        """The undefended model of the same data, architecture, recipe and seed, trained without poison."""
        ...

    def probe_images(self) -> Images:
        """The edited images of the probes, in their order."""
        ...

    def keep(self, predictions: Predictions) -> None:
        """Keep what the images of a task were given in a file beside the record."""
        ...


class Evaluator(Plugin):
    """Base class of evaluators.

    Attributes
    ----------
    metrics : tuple of Metric
    needs_attack : bool
        Does not apply to cells without an attack.
    needs_probes : bool
        Does not apply to attacks on captions.
    needs_clean_model : bool
        Needs the unpoisoned model, which is then trained first.
    needs_tasks : bool
        Does not apply to data sets without downstream tasks.
    needs_scores : bool
        Does not apply to defenses that do not score pairs.
    """

    metrics: ClassVar[tuple[Metric, ...]] = ()
    needs_attack: ClassVar[bool] = False
    needs_probes: ClassVar[bool] = False
    needs_clean_model: ClassVar[bool] = False
    needs_tasks: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False

    def __init__(self, params: Params) -> None:
        self.params = params

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        """What the evaluator needs and the data set lacks; None if nothing."""
        if cls.needs_tasks and not bundle.tasks:
            return bundle.task_reason or "the data set has no downstream task"
        return None

    @abstractmethod
    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        """Measure all declared metrics; values are within the range of their unit."""


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion; (0, 1) if n is 0."""
    return intervals.wilson(successes / n, n) if n else (0.0, 1.0)


def share(metric: str, task: str, hits: NDArray[np.bool_]) -> Measurement:
    """The share of true entries in `hits`, bool (n,), with its Wilson interval. Raises ValueError if n is 0."""
    n, successes = len(hits), int(np.sum(hits))
    if n == 0:
        raise ValueError(f"{metric} on {task}: no image to measure on")
    low, high = wilson(successes, n)
    return Measurement(metric=metric, task=task, value=successes / n, n=n, ci_low=low, ci_high=high)


def class_mean(metric: str, task: str, hits: NDArray[np.bool_], labels: NDArray[np.integer[Any]]) -> Measurement:
    """The mean of the class accuracies, for `hits` bool (n,) and `labels` int (n,).

    The interval is Wilson's with the effective sample size classes^2 / sum(1 / images of a class), at which classes of equal
    accuracy give the mean the same variance. Raises ValueError if n is 0.
    """
    if len(hits) == 0:
        raise ValueError(f"{metric} on {task}: no image to measure on")
    _, rows, counts = np.unique(labels, return_inverse=True, return_counts=True)
    value = float(np.mean(np.bincount(rows, weights=hits) / counts))
    n = float(len(counts) ** 2 / np.sum(1 / counts))
    low, high = wilson(value * n, n)
    return Measurement(metric=metric, task=task, value=value, n=len(hits), ci_low=min(low, value), ci_high=max(high, value))
