"""Summary of a section: which defenses stop which attacks, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from bench.reports.comparisons import asr_by_seed, effective_attacks, plain, utility_by_seed
from bench.reports.engagement import engaged
from bench.reports.labels import number
from bench.reports.measures import UTILITY, point_for
from bench.reports.records import Run
from bench.reports.sections import Group, Section
from bench.reports.stats import Point
from bench.reports.tables import FLOOR, asr_evaluators, stat_of
from bench.statistics.families import holm
from bench.statistics.paired import LEAST_SEEDS, Paired, paired

MARGIN = 0.05
"""An attack is stopped if its mean ASR is at most this much above its floor."""
LEVEL = 0.05
"""Significance level of tests."""
ENOUGH = 5
"""Number of seeds below which a test of paired differences misses all but large ones."""


@dataclass(frozen=True)
class Outcome:
    """One attack under one defense, as means over seeds.

    p: for an ASR of MARGIN or more above the floor; None for one seed. engaged: False if the defense missed one of its limits.
    """

    attack: str
    asr: float
    floor: float
    engaged: bool
    p: float | None

    @property
    def stopped(self) -> bool:
        """No defense is credited that did not engage."""
        return self.engaged and self.asr <= self.floor + MARGIN

    @property
    def text(self) -> str:
        return f"{self.attack} ({number(self.asr)}%)"


@dataclass(frozen=True)
class Verdict:
    """One defense against the effective attacks.

    unmeasured: the number of effective attacks it was not run against. utility: mean over tasks and attacks. price: the loss of
    utility against plain CLIP on the same seeds. time: training time relative to plain CLIP. front: whether it
    engaged throughout and is Pareto-optimal in worst-case ASR and utility.
    """

    defense: str
    undefended: bool
    outcomes: tuple[Outcome, ...]
    unmeasured: int
    seeds: tuple[int, ...]
    measure: str
    utility: float | None
    price: Paired | float | None
    time: float | None
    front: bool = False

    @property
    def worst(self) -> Outcome:
        return max(self.outcomes, key=lambda outcome: outcome.asr)

    @property
    def mean(self) -> float:
        return fmean(outcome.asr for outcome in self.outcomes)

    @property
    def stopped(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.stopped]

    @property
    def shown(self) -> int:
        """The number of attacks that are stopped significantly."""
        return sum(outcome.stopped and outcome.p is not None and outcome.p < LEVEL for outcome in self.outcomes)

    @property
    def sentence(self) -> str:
        """A summary that follows the name of the defense."""
        return f"{'; '.join(part for part in (self._stops, self._costs, self._takes) if part)}."

    @property
    def _stops(self) -> str:
        if self.undefended:
            return f"is the undefended model: {_count(len(self.outcomes), 'attack')} with a mean ASR of {number(self.mean)}%"
        left = [outcome.text for outcome in self.outcomes if outcome.engaged and not outcome.stopped]
        idle = [outcome.text for outcome in self.outcomes if not outcome.engaged]
        stops = f"stops {len(self.stopped) or 'none'} of {_count(len(self.outcomes), 'attack')}"
        if any(outcome.p is not None for outcome in self.stopped):
            stops += f" ({self.shown or 'none'} beyond the noise of the seeds)"
        if self.unmeasured:
            stops += f", {self.unmeasured} not measured"
        if left:
            stops += f"{', but not' if self.stopped else ':'} {', '.join(left)}"
        return f"{stops}; did not engage against {', '.join(idle)}" if idle else stops

    @property
    def _costs(self) -> str:
        if self.undefended or self.price is None:
            return ""
        if isinstance(self.price, float):
            return f"costs {number(self.price)} points of {self.measure} in one seed"
        interval = f"[{number(self.price.low)}, {number(self.price.high)}]"
        return f"costs {number(self.price.difference)} points of {self.measure} {interval}"

    @property
    def _takes(self) -> str:
        return f"takes {self.time:.1f} times as long" if self.time and not self.undefended else ""


@dataclass(frozen=True)
class Answer:
    """A verdict for each defense, the plain model first, on the effective attacks."""

    attacks: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a defense."""
        return max(len(verdict.seeds) for verdict in self.verdicts if not verdict.undefended or len(self.verdicts) == 1)

    @property
    def caveat(self) -> str:
        """What a small number of seeds cannot show; empty if there are enough."""
        if self.seeds < LEAST_SEEDS:
            return (
                "One seed: poison, initial weights and order were drawn once. No difference between defenses is claimed; "
                f"for that take at least {LEAST_SEEDS} seeds, better {ENOUGH}."
            )
        if self.seeds < ENOUGH:
            return (
                f"{self.seeds} seeds: only differences larger than those named as detectable are found in four of five cases; "
                f"that two defenses are equal cannot be claimed. {ENOUGH} seeds tell more."
            )
        return ""


def answer(section: Section) -> Answer | None:
    """The summary; None if no attack is effective, or no defense was measured on an effective one."""
    attacks = tuple(effective_attacks(section))
    verdicts = [verdict for name in section.defenses if (verdict := _verdict(section, name, attacks))]
    if not verdicts:
        return None
    return Answer(attacks, tuple(with_front(verdicts)))


def _verdict(section: Section, defense: str, attacks: Sequence[str]) -> Verdict | None:
    outcomes = _outcomes(section, defense, attacks)
    if not outcomes:
        return None
    couple = (defense, plain(section) or defense)
    by_measure = {name: values for name in UTILITY if (values := utility_by_seed(section, name, couple))}
    measure = next(iter(by_measure), "")
    own, other = (by_measure[measure][name] for name in couple) if measure else ({}, {})
    seeds = sorted({seed for attack in attacks for seed in asr_by_seed(section, attack)[defense]})
    return Verdict(
        defense=defense,
        undefended=defense == plain(section),
        outcomes=tuple(outcomes),
        unmeasured=len(attacks) - len(outcomes),
        seeds=tuple(seeds),
        measure=measure,
        utility=fmean(own.values()) if own else None,
        price=_price(own, other),
        time=_time(section, defense, attacks),
    )


def _outcomes(section: Section, defense: str, attacks: Sequence[str]) -> list[Outcome]:
    evaluators = asr_evaluators(section)
    known: list[tuple[str, float, float, bool]] = []
    above: list[Paired | None] = []
    for attack in attacks:
        group, values = section.group(attack, defense), asr_by_seed(section, attack)[defense]
        floor = stat_of(group, evaluators, FLOOR) if group else None
        if group and values and floor:
            floors = dict(zip(floor.seeds, (point.value for point in floor.points), strict=True))
            seeds = [seed for seed in values if seed in floors]
            known.append((attack, fmean(values.values()), floor.mean, engaged(group.runs) != "no"))
            enough = len(seeds) >= LEAST_SEEDS
            above.append(paired([values[s] for s in seeds], [floors[s] for s in seeds]) if enough else None)
    adjusted = iter(holm([result.at_most(MARGIN) for result in above if result]))
    return [Outcome(*of, next(adjusted) if result else None) for of, result in zip(known, above, strict=True)]


def _price(own: dict[int, float], other: dict[int, float]) -> Paired | float | None:
    seeds = sorted(own.keys() & other.keys())
    if len(seeds) >= LEAST_SEEDS:
        return paired([other[seed] for seed in seeds], [own[seed] for seed in seeds])
    return other[seeds[0]] - own[seeds[0]] if seeds else None


def _time(section: Section, defense: str, attacks: Sequence[str]) -> float | None:
    """Training time relative to plain CLIP, including the runs it builds on: mean over attacks and seeds."""
    found = []
    for attack in attacks:
        base = {run.seed: run for run in _runs(section.group(attack, plain(section)))}
        for run in _runs(section.group(attack, defense)):
            point = point_for(run, base.get(run.seed), "time.increase", "")
            found += [1 + point.value] if isinstance(point, Point) else []
    return fmean(found) if found else None


def _runs(group: Group | None) -> Sequence[Run]:
    return group.runs if group else ()


def with_front(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with `front` as it is among them."""
    able = [verdict for verdict in verdicts if verdict.utility is not None and all(o.engaged for o in verdict.outcomes)]
    points = {verdict.defense: (-verdict.worst.asr, verdict.utility or 0.0) for verdict in able}

    def beaten(point: tuple[float, float]) -> bool:
        return any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points.values())

    front = {defense for defense, point in points.items() if not beaten(point)}
    return [replace(verdict, front=verdict.defense in front) for verdict in verdicts]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
