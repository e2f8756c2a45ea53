"""A whole training, foretold from a few steps of each of its phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from bench.api import Phase, Scorer
from bench.profiling.machine import wait
from bench.training.checkpoint import Position
from bench.training.scorer import PairScorer
from bench.training.stages import Stages
from bench.training.trainer import Trainer


@dataclass(frozen=True)
class Limit:
    """How much of each phase is measured: so many steps, or, where `epochs` is given, all steps of its first epochs."""

    steps: int
    epochs: int | None = None

    def of(self, phase: PhaseTimes, steps: int) -> int:
        """Of the next `steps` steps of a phase, how many are measured."""
        if self.epochs is None:
            return min(steps, self.steps - phase.steps)
        return steps if phase.epochs < self.epochs else 0


@dataclass
class PhaseTimes:
    """Measured steps of all phases of one name, with the first of them, and what the whole training does of them."""

    name: str
    place: tuple[Sequence[Phase], int, int]
    flops: int = 0
    steps: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    whole_steps: int = 0
    whole_pairs: int = 0

    @property
    def factor(self) -> float:
        """From what was measured to the whole."""
        return self.whole_steps / self.steps


@dataclass(frozen=True)
class Times:
    """Seconds of a whole training: its phases, and beside them the forward passes of scoring, the rest of scoring, the rest of
    what a defense does between epochs, and the selection of pairs before them.
    """

    phases: list[PhaseTimes]
    scoring_forward: float
    scoring_rest: float
    split: float
    selection: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(phase.seconds * phase.factor for phase in self.phases) + sum(self.between.values())

    @property
    def between(self) -> dict[str, float]:
        """Seconds of what is not training, by stage."""
        return {
            "selection": self.selection,
            "scoring_forward": self.scoring_forward,
            "scoring_rest": self.scoring_rest,
            "split": self.split,
        }

    @property
    def pairs(self) -> int:
        return sum(phase.whole_pairs for phase in self.phases)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, which sum to `seconds`."""
        found = self.between
        for phase in self.phases:
            for name, seconds in phase_stages(phase).items():
                found[name] = found.get(name, 0.0) + seconds
        return found


def phase_stages(phase: PhaseTimes) -> dict[str, float]:
    """Seconds of a phase in the whole training by stage; "other" is what no stage accounts for."""
    known = {name: seconds * phase.factor for name, seconds in phase.stages.items()}
    return {**known, "other": phase.seconds * phase.factor - sum(known.values())}


def measure(trainer: Trainer, limit: Limit) -> Times:
    """Walk through all epochs as the defense orders them, but train no more than `limit` of each phase.

    What happens between epochs happens in full, except that pairs are scored once: in later epochs they keep their first
    similarity, and the time is counted. So sets that a defense splits by similarity are those of a model hardly trained.
    """
    trainer.stages = stages = MeasuredStages(trainer.encoder.device)
    pair_scorer = PairScorer(trainer.encoder, trainer.pairs, trainer.captions, stages=stages)
    scorer = ScoredOnce(pair_scorer, len(trainer.pairs), stages)
    found: dict[str, PhaseTimes] = {}
    between = selection = 0.0
    if trainer.guide is not None:
        guide = trainer.guide
        selection = _spent(lambda: trainer.defense.select(guide()), stages)
    for epoch in range(trainer.train.epochs):
        between += _spent(partial(trainer.defense.before_epoch, epoch, scorer), stages)
        phases = list(trainer.defense.phases(epoch))
        for number, phase in enumerate(phases):
            times = found.setdefault(phase.name, PhaseTimes(phase.name, (phases, epoch, number)))
            _measure_phase(trainer, times, (phases, epoch, number), limit)
        between += _spent(partial(trainer.defense.after_epoch, epoch, scorer), stages)
    measured = [times for times in found.values() if times.steps]
    forward, rest = scorer.whole_seconds()
    return Times(measured, forward, rest, between - scorer.seconds, selection)


def run_steps(trainer: Trainer, place: tuple[Sequence[Phase], int, int], count: int) -> int:
    """Train the first `count` steps of a phase: how many there were."""
    phases, epoch, number = place
    trainer.position = Position(epoch, number, 0)
    with closing(trainer.steps(list(phases), epoch)) as steps:
        return sum(1 for _ in islice(steps, count))


def _measure_phase(trainer: Trainer, times: PhaseTimes, place: tuple[Sequence[Phase], int, int], limit: Limit) -> None:
    phases, _, number = place
    indices = phases[number].indices
    pairs = len(trainer.pairs) if indices is None else len(indices)
    size = trainer.train.batch_size
    steps = pairs // size or min(pairs, 1)
    wanted = limit.of(times, steps)
    if wanted > 0:
        if not times.steps:
            with FlopCounterMode(display=False) as counter:  # this first step also warms up
                run_steps(trainer, place, 1)
            times.flops = counter.get_total_flops()
        before = dict(trainer.stages.seconds)
        started = time.perf_counter()
        times.steps += run_steps(trainer, place, wanted)
        wait(trainer.encoder.device)
        times.seconds += time.perf_counter() - started
        for name, seconds in trainer.stages.seconds.items():
            if spent := seconds - before.get(name, 0.0):
                times.stages[name] = times.stages.get(name, 0.0) + spent
    times.epochs += 1
    times.whole_steps += steps
    times.whole_pairs += min(pairs, steps * size)


def _spent(action: Callable[[], None], stages: MeasuredStages) -> float:
    started = time.perf_counter()
    action()
    wait(stages.device)
    return time.perf_counter() - started


class MeasuredStages(Stages):
    """Waits for the device at the end of each stage, so that a stage has the time of its work, and names it in a trace."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        with record_function(stage), super().__call__(stage):
            yield
            wait(self.device)


class ScoredOnce:
    """A scorer that scores a pair once, and knows what scoring all that it was asked for would take."""

    def __init__(self, scorer: Scorer, pairs: int, stages: MeasuredStages) -> None:
        self._scorer = scorer
        self._known = np.full(pairs, np.nan, dtype=np.float32)
        self._stages = stages
        self._asked = 0
        self._scored = 0
        self.seconds = 0.0

    def whole_seconds(self) -> tuple[float, float]:
        """Those of the encoder's passes and of the rest, had every pair been scored as often as asked."""
        factor = self._asked / max(self._scored, 1)
        forward = self._stages.seconds.get("scoring_forward", 0.0)
        return forward * factor, (self.seconds - forward) * factor

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        rows = np.arange(len(self._known)) if indices is None else indices
        self._asked += len(rows)
        new = rows[np.isnan(self._known[rows])]
        with self._timed(len(new)):
            self._known[new] = self._scorer.similarities(new)
        return self._known[rows]

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self._asked += len(indices)
        with self._timed(len(indices)):
            return self._scorer.embeddings(indices)

    @contextmanager
    def _timed(self, pairs: int) -> Iterator[None]:
        started = time.perf_counter()
        yield
        wait(self._stages.device)
        self.seconds += time.perf_counter() - started
        self._scored += pairs
