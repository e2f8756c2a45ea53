"""Linear probe on frozen image features."""

from __future__ import annotations

from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.api import EvalContext, Evaluator, FrozenModel, Measurement, Params, Task
from bench.evaluators.accuracy import METRICS, accuracy
from bench.registry import register_evaluator


class LinearProbeParams(Params):
    c: float = Field(default=1.0, gt=0, description="inverse strength of the L2 regularisation")
    max_iter: int = Field(default=500, ge=1, description="largest number of L-BFGS iterations")


@register_evaluator("linear_probe")
class LinearProbe(Evaluator):
    """Top-1 accuracy of a linear probe on frozen image features, on every downstream task (Radford et al. 2021).

    The probe is scikit-learn's logistic regression, fitted by L-BFGS on the train split. An iteration costs about
    4 x images x classes x features operations; ImageNet-1K has 50,000 images and 1,000 classes.

    Deviations:
    - Features are standardised on the train split; the paper uses them as they are.
    - The regularisation strength is fixed; the paper sweeps it.
    """

    citations = ("radford2021clip",)
    Params = LinearProbeParams
    params: LinearProbeParams
    metrics = METRICS
    needs_tasks = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        measurements: list[Measurement] = []
        for task in ctx.bundle.tasks:
            predictions = fit(ctx.model, task, self.params).predict(ctx.model.image_features(task.test_images).numpy())
            measurements += accuracy(ctx, task, predictions)
        return measurements


def fit(model: FrozenModel, task: Task, params: LinearProbeParams) -> Pipeline:
    """Fit standardisation and logistic regression on the train split of a task."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=params.c, max_iter=params.max_iter))
    return probe.fit(model.image_features(task.train_images).numpy(), task.train_labels)
