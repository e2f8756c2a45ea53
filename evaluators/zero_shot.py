"""Zero-shot classification."""

from __future__ import annotations

from bench.api import EvalContext, Evaluator, Measurement, Metric, share
from bench.registry import register_evaluator


@register_evaluator("zero_shot")
class ZeroShot(Evaluator):
    """Top-1 accuracy with class embeddings made of prompt templates, on every downstream task (Radford et al. 2021)."""

    metrics = (Metric(name="top1", description="test images given their class"),)
    needs_tasks = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        measurements = []
        for task in ctx.bundle.tasks:
            scores = ctx.model.image_features(task.test_images) @ ctx.model.classifier(task.vocabulary).T
            measurements.append(share("top1", task.name, scores.argmax(dim=1).numpy() == task.test_labels))
        return measurements
