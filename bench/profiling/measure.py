"""The time of a whole training, extrapolated from a few steps of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from bench.api import Encoder, Phase, Scorer
from bench.matrix.device import synchronize
from bench.training.checkpoint import Position
from bench.training.scorer import PairScorer
from bench.training.stages import Stages
from bench.training.trainer import Trainer


@dataclass(frozen=True)
class StepLimit:
    """How much of each phase is measured: `steps` steps, or all steps of its first `epochs` epochs."""

    steps: int
    epochs: int | None = None

    def of(self, phase: PhaseTimes, steps: int) -> int:
        """How many of the next `steps` steps of a phase are measured."""
        if self.epochs is None:
            return min(steps, self.steps - phase.steps)
        return steps if phase.epochs < self.epochs else 0


@dataclass
class PhaseTimes:
    """Measurements of all phases of one name, and their extent in the whole training.

    Attributes
    ----------
    first : tuple
        The phases of the first epoch that has one of the name, that epoch, and the position among them.
    flops : int
        FLOP of a step.
    steps, seconds, stages
        Number of measured steps, their time, and their time by stage.
    epochs : int
        Epochs seen so far.
    whole_steps, whole_pairs : int
        Steps and pairs of the whole training.
    """

    name: str
    first: tuple[Sequence[Phase], int, int]
    flops: int = 0
    steps: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    whole_steps: int = 0
    whole_pairs: int = 0

    @property
    def factor(self) -> float:
        """Ratio of the whole training to the measured steps."""
        return self.whole_steps / self.steps


@dataclass(frozen=True)
class TrainingTimes:
    """Seconds of a whole training.

    Attributes
    ----------
    phases : list of PhaseTimes
    scoring_forward, scoring_rest : float
        Scoring of pairs: the forward passes, and the rest.
    split : float
        The rest of a defense's work between epochs.
    selection : float
        Selection of pairs before the first epoch.
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
        """Seconds outside training steps, by stage."""
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
        """Seconds by stage; the sum is `seconds`."""
        found = self.between
        for phase in self.phases:
            for name, seconds in phase_stages(phase).items():
                found[name] = found.get(name, 0.0) + seconds
        return found


def phase_stages(phase: PhaseTimes) -> dict[str, float]:
    """Seconds of a phase in the whole training, by stage; "other" is the remainder."""
    known = {name: seconds * phase.factor for name, seconds in phase.stages.items()}
    return {**known, "other": phase.seconds * phase.factor - sum(known.values())}


def measure(trainer: Trainer, limit: StepLimit) -> TrainingTimes:
    """Run all epochs, but train at most `limit` of each phase.

    The work between epochs is done in full, except that each pair is scored once; later epochs reuse its similarity, and the
    time is extrapolated. Sets that a defense splits by similarity are therefore those of a barely trained model.
    """
    trainer.stages = stages = MeasuredStages(trainer.encoder.device)
    pair_scorer = PairScorer(trainer.encoder, trainer.pairs, trainer.captions, classes=trainer.classes, stages=stages)
    scorer = CachedScorer(pair_scorer, len(trainer.pairs), stages)
    found: dict[str, PhaseTimes] = {}
    between = selection = 0.0
    if trainer.guide is not None:
        guide = trainer.guide
        selection = _seconds(lambda: trainer.defense.select(guide()), stages)
    for epoch in range(trainer.train.epochs):
        between += _seconds(partial(trainer.defense.before_epoch, epoch, scorer), stages)
        phases = list(trainer.defense.phases(epoch))
        for number, phase in enumerate(phases):
            times = found.setdefault(phase.name, PhaseTimes(phase.name, (phases, epoch, number)))
            _measure_phase(trainer, times, (phases, epoch, number), limit)
        between += _seconds(partial(trainer.defense.after_epoch, epoch, scorer), stages)
    measured = [times for times in found.values() if times.steps]
    forward, rest = scorer.extrapolated_seconds()
    return TrainingTimes(measured, forward, rest, between - scorer.seconds, selection)


def run_steps(trainer: Trainer, phase: tuple[Sequence[Phase], int, int], count: int) -> int:
    """Train up to the first `count` steps of a phase; returns their number."""
    phases, epoch, number = phase
    trainer.position = Position(epoch, number, 0)
    with closing(trainer.steps(list(phases), epoch)) as steps:
        return sum(1 for _ in islice(steps, count))


def _measure_phase(trainer: Trainer, times: PhaseTimes, phase: tuple[Sequence[Phase], int, int], limit: StepLimit) -> None:
    phases, _, number = phase
    indices = phases[number].indices
    pairs = len(trainer.pairs) if indices is None else len(indices)
    size = trainer.train.batch_size
    steps = pairs // size or min(pairs, 1)
    wanted = limit.of(times, steps)
    if wanted > 0:
        if not times.steps:
            with FlopCounterMode(display=False) as counter:  # the first step also warms up
                run_steps(trainer, phase, 1)
            times.flops = counter.get_total_flops()
        before = dict(trainer.stages.seconds)
        started = time.perf_counter()
        times.steps += run_steps(trainer, phase, wanted)
        synchronize(trainer.encoder.device)
        times.seconds += time.perf_counter() - started
        for name, seconds in trainer.stages.seconds.items():
            if elapsed := seconds - before.get(name, 0.0):
                times.stages[name] = times.stages.get(name, 0.0) + elapsed
    times.epochs += 1
    times.whole_steps += steps
    times.whole_pairs += min(pairs, steps * size)


def _seconds(action: Callable[[], None], stages: MeasuredStages) -> float:
    started = time.perf_counter()
    action()
    synchronize(stages.device)
    return time.perf_counter() - started


class MeasuredStages(Stages):
    """Synchronises the device at the end of each stage, so that the stage includes its kernels, and labels it in traces."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        with record_function(stage), super().__call__(stage):
            yield
            synchronize(self.device)


class CachedScorer:
    """A scorer that computes each similarity once, and extrapolates the time without its cache."""

    def __init__(self, scorer: Scorer, pairs: int, stages: MeasuredStages) -> None:
        self._scorer = scorer
        self._cache = np.full(pairs, np.nan, dtype=np.float32)
        self._stages = stages
        self._requested = 0
        self._scored = 0
        self.seconds = 0.0

    def extrapolated_seconds(self) -> tuple[float, float]:
        """Seconds of forward passes, and of the rest, if every request were computed."""
        factor = self._requested / max(self._scored, 1)
        forward = self._stages.seconds.get("scoring_forward", 0.0)
        return forward * factor, (self.seconds - forward) * factor

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        rows = np.arange(len(self._cache)) if indices is None else indices
        self._requested += len(rows)
        new = rows[np.isnan(self._cache[rows])]
        with self._timed(len(new)):
            self._cache[new] = self._scorer.similarities(new)
        return self._cache[rows]

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        self._requested += len(indices)
        with self._timed(len(indices)):
            return self._scorer.embeddings(indices)

    def images(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return self._scorer.images(indices)

    def classes(self) -> torch.Tensor:
        return self._scorer.classes()

    def frozen(self) -> AbstractContextManager[Encoder]:
        return self._scorer.frozen()

    @contextmanager
    def _timed(self, pairs: int) -> Iterator[None]:
        started = time.perf_counter()
        yield
        synchronize(self._stages.device)
        self.seconds += time.perf_counter() - started
        self._scored += pairs
