"""Significance of differences between defenses: paired over seeds, p values adjusted within a family (Holm)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from bench.reports.engagement import engaged
from bench.reports.measures import UTILITY
from bench.reports.notes import Notes
from bench.reports.sections import Group, Section
from bench.reports.stats import Stat
from bench.reports.tables import ASR, asr_evaluators, attack_verdict, stat_of, utility_cell, utility_columns
from bench.statistics.families import holm
from bench.statistics.paired import LEAST_SEEDS, Paired, paired

ALL_ATTACKS = "all attacks"
POINT = 0.01
"""Equivalence margin: a smaller loss of utility does not count."""

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

    def as_dict(self) -> dict[str, Any]:
        """For a row of a data frame."""
        return {
            "measure": self.measure,
            "attack": self.attack,
            "defense": self.defense,
            "against": self.against,
            "seeds": self.result.seeds,
            "difference": self.result.difference,
            "ci_low": self.low,
            "ci_high": self.high,
            "p": self.result.p,
            "p_holm": self.p,
            "detectable": self.result.detectable,
            "p_equivalent": self.equivalent,
        }

    @property
    def low(self) -> float:
        return max(-1.0, self.result.low)

    @property
    def high(self) -> float:
        return min(1.0, self.result.high)


def comparisons(section: Section) -> list[Comparison]:
    """Compare the ASR under effective attacks with plain CLIP and with the best defense, and utility with plain CLIP.

    Comparisons with fewer than two common seeds are omitted.
    """
    found: list[Comparison] = []
    for attack in effective_attacks(section):
        values = asr_by_seed(section, attack)
        means = {name: fmean(of.values()) for name, of in values.items() if name != plain(section)}
        couples = [(name, plain(section)) for name in means]
        able = [name for name in means if engaged(section.groups[attack, name].runs) != "no"]
        repeated = [name for name in able if len(values[name]) >= LEAST_SEEDS]
        if repeated:
            best = min(repeated, key=means.__getitem__)
            couples += [(name, best) for name in means if name != best]
        found += _family(attack, ASR, [(*couple, values) for couple in couples])
    defended = [name for name in section.defenses if name != plain(section)]
    return found + [
        row for name in UTILITY for row in _of_utility(section, name, [(each, plain(section)) for each in defended])
    ]


def between(section: Section, defense: str, against: str, measures: Iterable[str]) -> list[Comparison]:
    """Compare two defenses, including ineffective attacks."""
    couple = (defense, against)
    found: list[Comparison] = []
    for measure in measures:
        if measure == ASR:
            attacked = [attack for attack in section.attacks if attack != "none"]
            found += [row for name in attacked for row in _family(name, ASR, [(*couple, asr_by_seed(section, name))])]
        else:
            found += _of_utility(section, measure, [couple])
    return found


def plain(section: Section) -> str:
    """The label of the undefended model; empty if none was run, or several variants of it."""
    found = {group.defense for group in section.groups.values() if group.undefended}
    return found.pop() if len(found) == 1 else ""


def effective_attacks(section: Section) -> list[str]:
    evaluators = asr_evaluators(section)
    attacked = [attack for attack in section.attacks if attack != "none"]
    return [attack for attack in attacked if attack_verdict(section, attack, evaluators, Notes()).state == "yes"]


@lru_cache(maxsize=64)
def asr_by_seed(section: Section, attack: str) -> dict[str, Values]:
    """The ASR under an attack, by defense and seed."""
    evaluators = asr_evaluators(section)
    groups = [group for group in section.groups.values() if group.attack == attack]
    return _by_defense((group.defense, stat) for group in groups if (stat := stat_of(group, evaluators, ASR)))


def utility_by_seed(section: Section, evaluator: str, names: Collection[str]) -> dict[str, Values]:
    """An evaluator's mean over tasks, by defense and seed, averaged over the attacks that all `names` were run with."""
    stats = [(group, stat) for group, stat in _utility_stats(section, evaluator) if group.defense in names]
    common = set.intersection(*({group.attack for group, _ in stats if group.defense == name} for name in names))
    return _by_defense((group.defense, stat) for group, stat in stats if group.attack in common)


@lru_cache(maxsize=64)
def _utility_stats(section: Section, evaluator: str) -> Sequence[tuple[Group, Stat]]:
    """An evaluator's mean over tasks for each group that has one; none if more of it is not better."""
    column = next((c for c in utility_columns(section) if c.name == evaluator and c.sums_up and c.better == "higher"), None)
    if column is None:
        return ()
    stats = ((group, utility_cell(section, group, column, Notes()).stat) for group in section.groups.values())
    return [(group, stat) for group, stat in stats if stat]


def _by_defense(stats: Iterable[tuple[str, Stat]]) -> dict[str, Values]:
    """The mean over the statistics of each defense, by seed; only seeds that all have. A defense without any has no values."""
    found: dict[str, list[Values]] = defaultdict(list)
    for defense, stat in stats:
        found[defense].append({seed: point.value for seed, point in zip(stat.seeds, stat.points, strict=True)})
    means = {defense: _mean(values) for defense, values in found.items()}
    return defaultdict(dict, {defense: values for defense, values in means.items() if values})


def _mean(groups: Sequence[Values]) -> Values:
    seeds = set.intersection(*(set(group) for group in groups))
    return {seed: fmean(group[seed] for group in groups) for seed in sorted(seeds)}


def _of_utility(section: Section, evaluator: str, couples: Iterable[tuple[str, str]]) -> list[Comparison]:
    return _family(ALL_ATTACKS, evaluator, [(*couple, utility_by_seed(section, evaluator, couple)) for couple in couples])


def _family(attack: str, measure: str, couples: Iterable[tuple[str, str, dict[str, Values]]]) -> list[Comparison]:
    """Test the pairs of defenses of one family; each comes with the values to compare."""
    tested = []
    for defense, against, values in couples:
        own, other = values[defense], values[against]
        seeds = sorted(own.keys() & other.keys())
        if len(seeds) >= LEAST_SEEDS:
            tested.append((defense, against, paired([own[seed] for seed in seeds], [other[seed] for seed in seeds])))
    adjusted = holm([result.p for *_, result in tested])
    return [
        Comparison(attack, measure, defense, against, result, p, None if measure == ASR else result.equivalent(POINT))
        for (defense, against, result), p in zip(tested, adjusted, strict=True)
    ]
