"""Attack success rate of a linear probe."""

from __future__ import annotations

import numpy as np

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, share
from bench.evaluators.linear_probe import LinearProbeParams, fit
from bench.evaluators.probes import answers
from bench.registry import register_evaluator


@register_evaluator("asr_linear_probe")
class ASRLinearProbe(Evaluator):
    """Attack success rate by linear probe: share of the probe images classified as the adversary's class (Yang et al. 2024).

    A linear probe on the frozen image features is trained on clean labelled images of the downstream task whose classes are the
    data set's vocabulary. The floor is the same share on the clean model.
    """

    citations = ("yang2024safeclip",)
    Params = LinearProbeParams
    params: LinearProbeParams
    metrics = (
        Metric(name="asr_probe", better="lower", description="probe images classified as the adversary's class"),
        Metric(name="asr_probe_floor", better="neither", description="the same on the clean model"),
    )
    needs_attack = True
    needs_probes = True
    needs_clean_model = True
    needs_tasks = True

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        if any(task.vocabulary.names == bundle.vocabulary.names for task in bundle.tasks):
            return None
        return "no downstream task has the classes of the vocabulary"

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        task = next(task for task in ctx.bundle.tasks if task.vocabulary.names == ctx.bundle.vocabulary.names)
        labels = np.array([probe.label for probe in ctx.probes])
        predicted, clean = (
            fit(model, task, self.params).predict(model.image_features(ctx.probe_images()).numpy())
            for model in (ctx.model, ctx.clean_model())
        )
        ctx.keep(answers(ctx, predicted, clean))
        return [share("asr_probe", "all", predicted == labels), share("asr_probe_floor", "all", clean == labels)]
