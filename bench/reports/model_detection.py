"""Scores of whole models: how well they tell those trained under an attack from those trained without."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.reports.sections import Section
from bench.reports.stats import pooled, wilson

MODEL = "model"
ALL = "all attacks"


@dataclass(frozen=True)
class ModelDetection:
    """AUROC of a metric between the models of one defense without attack and with one; `ALL` pools the attacks.

    The interval is Wilson's of a share of the fewer models, which varies no less.
    """

    evaluator: str
    metric: str
    defense: str
    attack: str
    auroc: float
    low: float
    high: float
    clean: int
    attacked: int

    @property
    def sentence(self) -> str:
        return (
            f"{self.evaluator} {self.metric} of {self.defense}, {self.attack}: AUROC {self.auroc:.2f} [{self.low:.2f}, "
            f"{self.high:.2f}] between {self.clean} models without attack and {self.attacked} with."
        )


def detection_of(section: Section) -> list[ModelDetection]:
    """Of every metric of the role "model", where there are models of both kinds."""
    values: dict[tuple[str, str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (attack, defense), group in section.groups.items():
        for evaluation in (each for run in group.runs for each in run.evaluations if each.record):
            for metric in evaluation.record.metrics if evaluation.record else ():
                point = pooled(evaluation, metric.name) if metric.role == MODEL else None
                if point is not None:
                    key = section.label(evaluation), metric.name, metric.better, defense
                    values[key][attack].append(point.value)
    return [found for key, by_attack in values.items() for found in _of_defense(*key, by_attack)]


def _of_defense(
    evaluator: str, metric: str, better: str, defense: str, by_attack: dict[str, list[float]]
) -> list[ModelDetection]:
    clean = by_attack["none"]
    attacked = {attack: found for attack, found in by_attack.items() if attack != "none"}
    if len(attacked) > 1:
        attacked[ALL] = [value for found in attacked.values() for value in found]
    rows = []
    for attack, found in attacked.items() if clean else ():
        share = auroc(found, clean) if better == "lower" else auroc(clean, found)
        interval = wilson(share, min(len(clean), len(found)))
        rows.append(ModelDetection(evaluator, metric, defense, attack, share, *interval, len(clean), len(found)))
    return rows


def auroc(upper: Sequence[float], lower: Sequence[float]) -> float:
    """The chance that one of `upper` is larger than one of `lower`; of equal ones half."""
    return fmean((one > other) + 0.5 * (one == other) for one in upper for other in lower)
