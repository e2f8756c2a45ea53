"""Detection of poisoned training pairs."""

from __future__ import annotations

import numpy as np

from bench.api import EvalContext, Evaluator, Measurement, Metric, share
from bench.evaluators import suspicion
from bench.registry import register_evaluator


@register_evaluator("detection")
class Detection(Evaluator):
    """Detection of poisoned pairs by a defense's own scores of the training pairs (Huang et al. 2025, ICLR).

    AUROC, average precision and the false positive rate at 95% true positives need no threshold. If the defense has one,
    `poisons_kept` and `clean_dropped` are measured at it; a few poisons that are kept can suffice for the attack. Scores are
    the last ones of the training. A pair without a score counts as least suspicious. Average precision depends on the poison
    rate; compare it at one rate only.

    Deviations:
    - Average precision in place of the area under the interpolated precision-recall curve; no detection error.
    """

    citations = ("huang2025dao",)
    metrics = (
        *suspicion.METRICS,
        Metric(name="poisons_kept", better="lower", description="poisoned pairs that the defense trusts at its own threshold"),
        Metric(name="clean_dropped", better="lower", description="clean pairs that it does not trust there"),
    )
    needs_attack = True
    needs_scores = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        found = ctx.pair_scores()
        scored = np.isfinite(found.score)
        if not scored.any():
            return []
        score = np.where(scored, found.score, found.score[scored].min() - 1)
        measurements = suspicion.ranked("pairs", score, found.poisoned)
        if found.kept is not None:
            measurements.append(share("poisons_kept", "pairs", found.kept[found.poisoned]))
            measurements.append(share("clean_dropped", "pairs", ~found.kept[~found.poisoned]))
        return measurements
