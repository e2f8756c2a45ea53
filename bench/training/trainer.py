"""The training loop: every cell of every matrix goes through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Batch, Defense, Phase, Scorer
from bench.config import RunSpec, TrainSpec
from bench.data.captions import CaptionTokens
from bench.data.loader import ahead, batches
from bench.data.poisoned import PoisonedPairs
from bench.matrix.stop import at_once
from bench.models.encoder import ClipEncoder
from bench.training.checkpoint import Checkpoint, Position
from bench.training.gradients import Reach
from bench.training.held import Held
from bench.training.joint_loss import joint_loss
from bench.training.late import LateLosses, StepLoss
from bench.training.meter import EpochMeter
from bench.training.optimizer import adamw
from bench.training.ranks import Ranks
from bench.training.schedule import warmup_cosine
from bench.training.scorer import PairScorer
from bench.training.seeds import seed_everything
from bench.training.stages import Stages
from bench.training.telemetry import clip_steps, first_look, poison_telemetry
from bench.training.views import Place, Views

CHECKPOINT_SECONDS = 300.0

_EXPLODED = 1e6
"""A contrastive loss of unit embeddings at a scale of 100 stays below 200 + log(batch size)."""


class TrainingDiverged(RuntimeError):
    """The loss or a weight is no longer a finite number, or the loss has exploded."""


class TrainingProgress(Protocol):
    """Hears of stages and steps. `share` is the part of the training that is done."""

    def stage(self, name: str) -> None: ...

    def step(self, share: float, pairs_per_second: float, loss: float) -> None: ...

    def epoch(self, curve: dict[str, Any], epochs: int) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Trained:
    curves: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def train_seconds(self) -> float:
        return sum(curve["seconds"] for curve in self.curves)

    @property
    def pairs_per_second(self) -> float:
        return sum(curve["pairs"] for curve in self.curves) / max(self.train_seconds, 1e-9)


class Trainer:
    """Trains `encoder` in place on `pairs` as `defense` says.

    `train` is the spec's recipe with what the defense replaces of it. `guide` loads the model that the defense selects pairs
    with, where it does. `stop()` true ends the run with KeyboardInterrupt after a checkpoint, or within selection or scoring.
    One is also written after a step when `checkpoint_seconds` have passed since the last, before the scoring that ends an
    epoch, and at the end. Of several processes every one runs this; the first alone selects pairs, and reads and writes the
    checkpoint.
    """

    def __init__(
        self,
        spec: RunSpec,
        train: TrainSpec,
        pairs: PoisonedPairs,
        captions: CaptionTokens,
        encoder: ClipEncoder,
        defense: Defense,
        checkpoint: Path,
        progress: TrainingProgress,
        stop: Callable[[], bool],
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        guide: Callable[[], Scorer] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.spec = spec
        self.train = train
        self.pairs = pairs
        self.captions = captions
        self.encoder = encoder
        self.defense = defense
        self.checkpoint = checkpoint
        self.progress = progress
        self.stop = stop
        self.checkpoint_seconds = checkpoint_seconds
        self.guide = guide
        self.ranks = ranks or Ranks()
        self.views = Views(spec, train, pairs, captions, encoder.device, self.ranks)
        self.held = Held(defense, encoder.device)
        self.loss = joint_loss(defense, encoder, self.held, self.ranks)
        self.optimizer = adamw([encoder, self.held], train)
        self.scaler = torch.amp.GradScaler(encoder.device.type, enabled=train.precision == "fp16")
        self.position = Position()
        self.curves: list[dict[str, Any]] = []
        self.meter = EpochMeter()
        self.stages = Stages()
        self._losses = LateLosses()
        self._order = keys.order_parts(spec, pairs.digest)
        self._reach = Reach(self.optimizer, defense)

    def run(self) -> Trained:
        """Train from the checkpoint, where there is one, to the end."""
        if not self._resume() and self.guide is not None:
            self.progress.stage("selecting pairs")
            self._timed("selection", partial(self._select, self.guide))
            self._save()
        saved = time.monotonic()
        scorer = PairScorer(self.encoder, self.pairs, self.captions, self.stop, self.ranks)
        for epoch in range(self.position.epoch, self.train.epochs):
            if self.position.phase == self.position.step == 0:
                seed_everything(*self._order, "before", epoch)
                self._timed("scoring", partial(self.defense.before_epoch, epoch, scorer))
            phases = self.ranks.from_first(list(self.defense.phases(epoch)))
            while self.position.phase < len(phases):
                for _ in self.steps(phases, epoch):
                    if self.ranks.any(self.stop()):
                        self._save()
                        self.ranks.wait()
                        raise KeyboardInterrupt
                    if self.ranks.any(time.monotonic() - saved > self.checkpoint_seconds):
                        self._save()
                        saved = time.monotonic()
                self.position = Position(epoch, self.position.phase + 1, 0)
            self._save()
            saved = time.monotonic()
            self._end_epoch(epoch, scorer, phases)
        self._check_weights()
        self._save()
        return Trained(self.curves, self.stages.seconds)

    def _select(self, guide: Callable[[], Scorer]) -> None:
        if self.ranks.first:
            scorer = guide()
            seed_everything(*self._order, "select")
            self.defense.select(scorer)
        if self.ranks.count > 1:
            self.defense.load_state_dict(self.ranks.from_first(self.defense.state_dict()))

    def steps(self, phases: list[Phase], epoch: int) -> Generator[None, None, None]:
        """Do the steps that are left of the current phase, yielding after each."""
        number = self.position.phase
        phase = phases[number]
        indices = np.arange(len(self.pairs)) if phase.indices is None else phase.indices
        rng = keys.generator(*self._order, epoch, number)
        steps = batches(indices, self.train.batch_size, rng)
        todo = steps[self.position.step :]
        clock = time.perf_counter()
        self.encoder.train()
        places = ((epoch, number, step) for step in range(self.position.step, len(steps)))
        for place, batch in ahead(self._loaded(phase, rows, place) for rows, place in zip(todo, places, strict=True)):
            self.stages.add("load", time.perf_counter() - clock)
            passed = (number + (self.position.step + 0.5) / len(steps)) / len(phases)
            self._set_lr(phase, epoch + passed)
            loss = self._step(phase, batch, place)
            self._losses.put(phase.name, epoch, self.position.step, loss)
            self._average(self._losses.ready())
            self.meter.add_time(time.perf_counter() - clock, pairs=len(batch.indices))
            self.position.step += 1
            self.progress.step((epoch + passed) / self.train.epochs, self.meter.pairs_per_second, self.meter.loss)
            yield
            clock = time.perf_counter()

    def _step(self, phase: Phase, loaded: Batch, place: Place) -> torch.Tensor:
        with self.stages("augment"):
            batch = self.views.draw(phase, loaded, place)
        seed_everything(*self._order, "step", *place)
        with self.stages("forward"):
            loss = self.loss(batch, phase)
        self._reach.check(loss, phase.name)
        with self.stages("backward"):
            self.scaler.scale(loss).backward()
        with self.stages("optimiser"):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.encoder.clamp_logit_scale()
        return loss

    def _loaded(self, phase: Phase, rows: NDArray[np.int64], place: Place) -> tuple[Place, Batch]:
        return place, self.views.load(phase, rows, place)

    def _timed(self, stage: str, action: Callable[[], None]) -> None:
        started = time.perf_counter()
        with at_once(self.stop, alone=self.ranks.count == 1):
            action()
        spent = time.perf_counter() - started
        self.stages.add(stage, spent)
        self.meter.add_time(spent)

    def _set_lr(self, phase: Phase, progress: float) -> None:
        scheduled = self.train.lr * warmup_cosine(progress, self.train.epochs, self.train.warmup_epochs)
        lr = phase.lr_share * scheduled if phase.lr is None else phase.lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _average(self, losses: Sequence[StepLoss]) -> None:
        """Take losses into the means of the epoch. Raises TrainingDiverged on every process when one diverges on any."""
        sound = list(takewhile(lambda loss: abs(loss.value) < _EXPLODED, losses))
        for loss in sound:
            self.meter.add_loss(loss)
        if self.ranks.any(len(sound) < len(losses)):
            if len(sound) == len(losses):
                raise self._diverged("the loss of another process diverged", self.position.epoch, self.position.step)
            wrong = losses[len(sound)]
            raise self._diverged(f"the loss became {wrong.value:g}", wrong.epoch, wrong.step)

    def _check_weights(self) -> None:
        """The loss is taken before the last step, which may be the one that diverges."""
        for name, value in self.encoder.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise self._diverged(f"the weights {name} are not finite", self.position.epoch, self.position.step)

    def _diverged(self, what: str, epoch: int, step: int) -> TrainingDiverged:
        before = "" if math.isnan(self.meter.loss) else f"the mean loss before it was {self.meter.loss:.3g}, "
        return TrainingDiverged(
            f"{what} in epoch {epoch}, step {step}: {before}the logit scale is "
            f"{float(self.encoder.logit_scale.detach()):.3g}; "
            f"a lower learning rate (train.lr, now {self.train.lr:g}) or precision fp32 may help"
        )

    def _end_epoch(self, epoch: int, scorer: PairScorer, phases: Sequence[Phase]) -> None:
        self._average(self._losses.ready(keep=0))
        seed_everything(*self._order, "after", epoch)
        self._timed("scoring", partial(self.defense.after_epoch, epoch, scorer))
        seen = poison_telemetry(self.defense.observed(), self.pairs.poisoned)
        if epoch == 0 and "similarity_clean" not in seen:
            seen |= first_look(scorer, self.pairs.poisoned, keys.generator(*self._order, "first look"))
        curve: dict[str, Any] = {
            "epoch": epoch,
            **self.meter.numbers,
            **clip_steps(phases, self.meter.numbers, len(self.pairs)),
            "pairs_per_second": self.meter.pairs_per_second,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "logit_scale": float(self.encoder.logit_scale.detach()),
            **self.defense.telemetry(),
            **seen,
        }
        self.curves.append(curve)
        self.progress.epoch(curve, self.train.epochs)
        self.meter = EpochMeter()
        self.position = Position(epoch + 1, 0, 0)

    def _save(self) -> None:
        self._average(self._losses.ready(keep=0))
        if not self.ranks.first:
            return
        Checkpoint(
            self.position,
            self.encoder.state_dict(),
            self.optimizer.state_dict(),
            self.defense.state_dict(),
            self.held.state_dict(),
            self.curves,
            self.meter.numbers,
            self.stages.seconds,
            self.scaler.state_dict(),
        ).save(self.checkpoint)

    def _resume(self) -> bool:
        """Go back to where the newest sound checkpoint stands; False where there is none."""
        found, damaged = self.ranks.from_first(Checkpoint.newest(self.checkpoint) if self.ranks.first else (None, []))
        if damaged:
            then = "training starts anew" if found is None else "the one before it is used"
            self.progress.note(f"{' and '.join(damaged)} cannot be read: {then}")
        if found is None:
            return False
        try:
            self.encoder.load_state_dict(found.model)
            self.optimizer.load_state_dict(found.optimizer)
            self.defense.load_state_dict(found.defense)
            self.held.load_state_dict(found.held)
            self.scaler.load_state_dict(found.scaler)
        except Exception as error:
            folder = self.checkpoint.parent
            raise RuntimeError(f"checkpoints in {folder} are not of this training; delete them, then --retry-failed") from error
        self.position, self.curves, self.meter = found.position, found.curves, EpochMeter(found.partial)
        self.stages.seconds = found.seconds
        return True
