"""Which differences between defenses are more than noise: paired over seeds, p values adjusted within a family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.reports.measures import UTILITY
from bench.reports.notes import Notes
from bench.reports.sections import Group, Section
from bench.reports.stats import Stat
from bench.reports.tables import ASR, asr_evaluators, attack_took, stat_of, utility_cell, utility_columns
from bench.statistics.families import holm
from bench.statistics.paired import LEAST_SEEDS, Paired, paired

ALL_ATTACKS = "all attacks"
POINT = 0.01
"""A defense is as useful as plain CLIP where it costs less than this."""

Values = dict[int, float]
"""One measure of one defense, by seed."""


@dataclass(frozen=True)
class Comparison:
    """A defense against another one on the same seeds, in fractions.

    attack: one attack, or all of them, where their mean is compared. measure: "asr" or an evaluator of utility. p: adjusted by
    Holm's method; an attack is a family, and a measure of utility. equivalent: p of a true difference of a point or more, for
    utility alone.
    """

    attack: str
    measure: str
    defense: str
    against: str
    result: Paired
    p: float
    equivalent: float | None = None

    @property
    def low(self) -> float:
        return max(-1.0, self.result.low)

    @property
    def high(self) -> float:
        return min(1.0, self.result.high)


def comparisons(section: Section) -> list[Comparison]:
    """Of attacks that took, ASR against plain CLIP and against the best defense; utility against plain CLIP.

    What fewer than two common seeds measured is left out.
    """
    found = []
    for attack in effective_attacks(section):
        values = asr_by_seed(section, attack)
        defended = {name: fmean(of.values()) for name, of in values.items() if name != plain(section)}
        couples = [(name, plain(section)) for name in defended]
        if defended:
            best = min(defended, key=defended.__getitem__)
            couples += [(name, best) for name in defended if name != best]
        found += _family(attack, ASR, values, couples)
    for evaluator in UTILITY:
        values = utility_by_seed(section, evaluator)
        couples = [(name, plain(section)) for name in values if name != plain(section)]
        found += _family(ALL_ATTACKS, evaluator, values, couples)
    return found


def between(section: Section, defense: str, against: str, measures: Iterable[str]) -> list[Comparison]:
    """One defense against another one: `comparisons` of the two alone, attacks that did not take included."""
    found = []
    for measure in measures:
        if measure == ASR:
            attacked = [attack for attack in section.attacks if attack != "none"]
            worlds = {attack: asr_by_seed(section, attack) for attack in attacked}
        else:
            worlds = {ALL_ATTACKS: utility_by_seed(section, measure)}
        for attack, values in worlds.items():
            found += _family(attack, measure, values, [(defense, against)])
    return found


def plain(section: Section) -> str:
    """The label of the undefended model; empty where none was run, or several settings of it."""
    found = {group.defense for group in section.groups.values() if group.undefended}
    return found.pop() if len(found) == 1 else ""


def effective_attacks(section: Section) -> list[str]:
    evaluators = asr_evaluators(section)
    attacked = [attack for attack in section.attacks if attack != "none"]
    return [attack for attack in attacked if attack_took(section, attack, evaluators, Notes()).state == "yes"]


def asr_by_seed(section: Section, attack: str) -> dict[str, Values]:
    """By defense."""
    evaluators = asr_evaluators(section)
    return _by_defense(section, lambda group: stat_of(group, evaluators, ASR) if group.attack == attack else None)


def utility_by_seed(section: Section, evaluator: str) -> dict[str, Values]:
    """By defense the evaluator's mean over tasks, of each seed the mean over the attacks that every defense was run with."""
    column = next((c for c in utility_columns(section) if c.name == evaluator and c.sums_up and c.better == "higher"), None)
    if column is None:
        return {}
    common = set.intersection(*({a for a, d in section.groups if d == name} for name in section.defenses))
    return _by_defense(
        section,
        lambda group: utility_cell(section, group, column, Notes()).stat if group.attack in common else None,
    )


def _by_defense(section: Section, stat: Callable[[Group], Stat | None]) -> dict[str, Values]:
    """By defense and seed the mean over groups; seeds that one of them lacks are left out."""
    found: dict[str, list[Values]] = {}
    for (_, defense), group in section.groups.items():
        measured = stat(group)
        if measured:
            values = {seed: point.value for seed, point in zip(measured.seeds, measured.points, strict=True)}
            found.setdefault(defense, []).append(values)
    means = {defense: _mean(groups) for defense, groups in found.items()}
    return {defense: values for defense, values in means.items() if values}


def _mean(groups: Sequence[Values]) -> Values:
    seeds = set.intersection(*(set(group) for group in groups))
    return {seed: fmean(group[seed] for group in groups) for seed in sorted(seeds)}


def _family(attack: str, measure: str, values: dict[str, Values], couples: Iterable[tuple[str, str]]) -> list[Comparison]:
    tested = []
    for defense, against in couples:
        own, other = values.get(defense, {}), values.get(against, {})
        seeds = sorted(own.keys() & other.keys())
        if len(seeds) >= LEAST_SEEDS:
            tested.append((defense, against, paired([own[seed] for seed in seeds], [other[seed] for seed in seeds])))
    adjusted = holm([result.p for *_, result in tested])
    return [
        Comparison(attack, measure, *names, result, p, None if measure == ASR else result.equivalent(POINT))
        for (*names, result), p in zip(tested, adjusted, strict=True)
    ]
