"""Zero-shot classification."""

from __future__ import annotations

from bench.api import EvalContext, Evaluator, Measurement
from bench.evaluators.accuracy import METRICS, accuracy
from bench.registry import register_evaluator


@register_evaluator("zero_shot")
class ZeroShot(Evaluator):
    """Top-1 accuracy of zero-shot classification on every downstream task (Radford et al. 2021).

    The embedding of a class is the mean of the text embeddings of its prompts, normalised; an image is assigned to the class of
    largest cosine similarity.
    """

    citations = ("radford2021clip",)
    metrics = METRICS
    needs_tasks = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        measurements: list[Measurement] = []
        for task in ctx.bundle.tasks:
            scores = ctx.model.image_features(task.test_images) @ ctx.model.classifier(task.vocabulary).T
            measurements += accuracy(ctx, task, scores.argmax(dim=1).numpy())
        return measurements
