"""Ranks of defenses over attacks and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.reports.comparisons import Values, asr_by_seed, effective_attacks
from bench.reports.engagement import engaged
from bench.reports.figures import Scale, Tick
from bench.reports.sections import Section
from bench.statistics.paired import LEAST_SEEDS
from bench.statistics.ranks import LEAST_BLOCKS, Friedman, friedman, ranks

LEFT, RIGHT, TOP, ROW = 150, 346, 12, 22


@dataclass(frozen=True)
class RankRow:
    """The mean rank of a defense, 1 the lowest ASR, with its 95% interval; `y` and coordinates are those of the drawing."""

    defense: str
    rank: float
    low: float
    high: float
    x: float
    x_low: float
    x_high: float
    y: float


@dataclass(frozen=True)
class RankTable:
    """Defenses by mean rank over blocks, which are the effective attacks of all settings.

    disengaged: defenses that are not ranked because they did not engage. test: None with too few blocks.
    """

    rows: tuple[RankRow, ...]
    blocks: tuple[str, ...]
    seeds: int
    disengaged: tuple[str, ...]
    test: Friedman | None
    ticks: tuple[Tick, ...]
    critical: float

    @property
    def height(self) -> int:
        return TOP + ROW * len(self.rows) + 40

    @property
    def sentence(self) -> str:
        """The result of the test, or why there is none."""
        if self.test is None:
            return (
                f"{len(self.blocks)} blocks: Friedman's test needs {LEAST_BLOCKS} and three defenses, so no difference between "
                "mean ranks is claimed."
            )
        return (
            f"Friedman's test over {len(self.blocks)} blocks: p = {self.test.p:.2g}. Mean ranks that differ by more than "
            f"{self.test.critical_difference:.2f} differ significantly (Nemenyi, 5%)."
        )

    def as_dicts(self) -> list[dict[str, Any]]:
        test = {"friedman_p": self.test.p, "critical_difference": self.test.critical_difference} if self.test else {}
        shared = {"blocks": len(self.blocks), "seeds": self.seeds, "friedman_p": None, "critical_difference": None, **test}
        names = ("defense", "rank", "low", "high")
        return [{**{name: getattr(row, name) for name in names}, **shared} for row in self.rows]


def rank_table(sections: Sequence[Section]) -> RankTable | None:
    """Rank the defenses that were measured, and engaged, under every effective attack on two or more common seeds.

    None if there are fewer than two such defenses or two such attacks.
    """
    blocks = {
        (section.title, section.subtitle, attack): asr_by_seed(section, attack)
        for section in sections
        for attack in effective_attacks(section)
    }
    if len(blocks) < 2:
        return None
    measured = [name for name in next(iter(blocks.values())) if all(name in values for values in blocks.values())]
    idle = _disengaged(sections)
    ranked = [name for name in measured if name not in idle]
    seeds = _common_seeds([values[name] for values in blocks.values() for name in ranked])
    if len(ranked) < 2 or len(seeds) < LEAST_SEEDS:
        return None
    asr = np.array([[[values[name][seed] for name in ranked] for values in blocks.values()] for seed in seeds])
    found, test = ranks(asr), friedman(asr.mean(axis=0))
    x = Scale(1, len(ranked), LEFT, RIGHT)
    rows = []
    for place, at in enumerate(np.argsort(found.mean, kind="stable").tolist()):
        rank, low, high = float(found.mean[at]), float(found.low[at]), float(found.high[at])
        rows.append(RankRow(ranked[at], rank, low, high, x.at(rank), x.at(low), x.at(high), TOP + ROW * (place + 0.5)))
    return RankTable(
        rows=tuple(rows),
        blocks=tuple(" · ".join(block) for block in blocks),
        seeds=len(seeds),
        disengaged=tuple(name for name in measured if name in idle),
        test=test,
        ticks=x.ticks(6, lambda value: f"{value:g}"),
        critical=x.at(1 + test.critical_difference) - LEFT if test else 0.0,
    )


def _disengaged(sections: Sequence[Section]) -> set[str]:
    groups = [group for section in sections for group in section.groups.values()]
    return {group.defense for group in groups if group.attack != "none" and engaged(group.runs) == "no"}


def _common_seeds(values: Sequence[Values]) -> list[int]:
    return sorted(set.intersection(*map(set, values))) if values else []
