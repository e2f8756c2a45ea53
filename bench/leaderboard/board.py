"""The runs of several results folders, each with what stands behind it; of copies of a run, the worst verified one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from bench.matrix.store import Store
from bench.reports.records import Evaluation, Run, load_runs, order
from bench.reports.tables import ASR
from bench.submission.verified import LEVELS, read_verified

OWN = "own"
"""The level of records in a folder that no archive was unpacked to: those of whoever builds the site."""
_VERIFIED = (OWN, "measured again", "trained again")


@dataclass(frozen=True)
class Origin:
    """Where a run is from: the name of a folder or of an archive, the sha256 of the latter or "", and a level or OWN."""

    name: str
    sha256: str
    level: str

    @property
    def verified(self) -> bool:
        """Whether somebody else than the submitter made the numbers."""
        return self.level in _VERIFIED


@dataclass(frozen=True)
class Board:
    """All runs, without duplicates. origins: by run key. damaged: paths of unreadable records, with the reasons."""

    runs: list[Run]
    origins: dict[str, Origin]
    damaged: list[tuple[str, str]]

    def level(self, runs: Sequence[Run]) -> str:
        """The least that stands behind any of the runs."""
        found = {self.origins[run.key].level for run in runs}
        return min(found, key=(*LEVELS, OWN).index) if found else ""


def load_board(folders: Sequence[Path]) -> Board:
    """Read results folders. Raises UserError for one that is none."""
    copies: dict[str, list[tuple[Run, Origin]]] = defaultdict(list)
    damaged = []
    for folder in folders:
        store, verified = Store.open(folder), read_verified(folder)
        for run in load_runs(store):
            level = verified.levels.get(run.key, LEVELS[0]) if verified else OWN
            name = verified.archive if verified else folder.resolve().name
            copies[run.key].append((run, Origin(name, verified.sha256 if verified else "", level)))
        damaged += [(f"{folder.name}/{path}", reason) for path, reason in sorted(store.damaged.items())]
    kept = [_worst(each) for each in copies.values()]
    runs = sorted((run for run, _ in kept), key=order)
    return Board(runs, {run.key: origin for run, origin in kept}, damaged)


def _worst(copies: Sequence[tuple[Run, Origin]]) -> tuple[Run, Origin]:
    """One run from its copies: of each evaluator the worst that is verified, or, where none is, the worst that is claimed."""
    done = [copy for copy in copies if copy[0].record] or copies[:1]
    able = [copy for copy in done if copy[1].verified] or done
    run, origin = max(
        able, key=lambda copy: max((_harm(each) for each in copy[0].evaluations if each.name == ASR), default=0.0)
    )
    found: dict[str, Evaluation] = {}
    for copy, _ in ((run, origin), *able):
        for each in copy.evaluations:
            if each.name not in found or _harm(each) > _harm(found[each.name]):
                found[each.name] = each
    return replace(run, evaluations=tuple(found[name] for name in sorted(found))), origin


def _harm(evaluation: Evaluation) -> float:
    """How bad the first metric is, as a mean over its tasks: higher is worse. Nothing measured is least."""
    if evaluation.record is None or not evaluation.record.metrics:
        return -2.0
    metric = evaluation.record.metrics[0]
    values = [each.value for each in evaluation.measurements if each.metric == metric.name and each.value is not None]
    sign = -1 if metric.better == "higher" else 1
    return sign * fmean(values) if values else -2.0
