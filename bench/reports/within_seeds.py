"""Two defenses on the same probes, seed by seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from bench.matrix.store import Store
from bench.reports.predictions import rows_of
from bench.reports.records import Run
from bench.reports.sections import Section
from bench.reports.tables import ASR, asr_evaluators
from bench.statistics.discordance import Discordance, discordance


@dataclass(frozen=True)
class WithinSeed:
    """How two defenses differ on the probes of one attack and seed."""

    attack: str
    seed: int
    result: Discordance


def within_seeds(store: Store, section: Section, defense: str, against: str) -> list[WithinSeed]:
    """Every attack and seed for which both defenses have predictions of the same probes."""
    evaluators = asr_evaluators(section)
    found = []
    for attack in section.attacks:
        for first, second in _same_seed(section, attack, defense, against):
            own, other = _probes(store, first, evaluators), _probes(store, second, evaluators)
            if own is None or other is None or not own.drop(columns="hit").equals(other.drop(columns="hit")):
                continue
            found.append(WithinSeed(attack, first.seed, discordance(own.hit.to_numpy(), other.hit.to_numpy())))
    return found


def _same_seed(section: Section, attack: str, defense: str, against: str) -> Iterator[tuple[Run, Run]]:
    groups = [section.group(attack, name) for name in (defense, against)]
    own, other = ({run.seed: run for run in group.runs} if group else {} for group in groups)
    yield from ((own[seed], other[seed]) for seed in sorted(own.keys() & other.keys()))


def _probes(store: Store, run: Run, evaluators: set[str]) -> pd.DataFrame | None:
    """Group, uid and target of each probe, and whether it is taken for the target; None without predictions."""
    for evaluation in run.evaluations:
        if evaluation.name in evaluators and any(measured.metric == ASR for measured in evaluation.measurements):
            rows = rows_of(store, run, evaluation)
            if rows is not None:
                return rows[["group", "uid", "target"]].astype(object).assign(hit=rows.predicted == rows.target)
    return None
