"""Attack success rate."""

from __future__ import annotations

import numpy as np

from bench.api import EvalContext, Evaluator, Measurement, Metric, share
from bench.evaluators.probes import answers, right
from bench.registry import register_evaluator


@register_evaluator("asr")
class ASR(Evaluator):
    """Attack success rate: share of the probe images classified zero-shot as the adversary's class (Yang et al. 2024).

    Probes are the target images of TDPA, or test images with the trigger. They never show the adversary's class, so a correct
    prediction never counts as a success. The floor is the same share on the clean model: undefended, trained without poison on
    the same data and seed. Classification is over the data set's vocabulary.
    """

    citations = ("yang2024safeclip",)
    metrics = (
        Metric(name="asr", better="lower", description="probe images classified as the adversary's class"),
        Metric(name="asr_floor", better="neither", description="the same on the clean model"),
        Metric(name="triggered_top1", better="higher", description="probe images classified correctly"),
    )
    needs_attack = True
    needs_probes = True
    needs_clean_model = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        images, vocabulary = ctx.probe_images(), ctx.bundle.vocabulary
        predictions = (ctx.model.image_features(images) @ ctx.model.classifier(vocabulary).T).argmax(dim=1).numpy()
        clean = ctx.clean_model()
        floor = (clean.image_features(images) @ clean.classifier(vocabulary).T).argmax(dim=1).numpy()
        labels = np.array([probe.label for probe in ctx.probes])
        known, correct = right(ctx, predictions)
        ctx.keep(answers(ctx, predictions, floor))

        groups = np.array([probe.group for probe in ctx.probes])
        measurements = []
        for name in ["all", *sorted(set(groups) - {"all"})]:
            rows = np.ones(len(groups), dtype=bool) if name == "all" else groups == name
            measurements += [
                share("asr", name, predictions[rows] == labels[rows]),
                share("asr_floor", name, floor[rows] == labels[rows]),
            ]
            if (known & rows).any():
                measurements.append(share("triggered_top1", name, correct[known & rows]))
        return measurements
