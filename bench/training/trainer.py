"""The training loop of every cell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Batch, Defense, Phase, Scorer
from bench.config import RunSpec, TrainSpec
from bench.data.captions import CaptionTokens
from bench.data.loader import batches, prefetch
from bench.data.poisoned import PoisonedPairs
from bench.models.encoder import ClipEncoder
from bench.models.stages import eval_norm
from bench.shutdown import interruptible
from bench.training.async_loss import AsyncLosses, StepLoss
from bench.training.checkpoint import Checkpoint, Position
from bench.training.gradients import GradientCheck
from bench.training.held import HeldModules
from bench.training.joint_loss import joint_loss
from bench.training.meter import EpochMeter
from bench.training.optimizer import adamw
from bench.training.progress import TrainingProgress
from bench.training.ranks import Ranks
from bench.training.schedule import warmup_cosine
from bench.training.scorer import Classes, PairScorer
from bench.training.seeds import seed_everything
from bench.training.stages import Stages
from bench.training.telemetry import clip_steps, poison_telemetry, sampled_histograms
from bench.training.trained import Trained
from bench.training.views import StepIndex, Views

CHECKPOINT_SECONDS = 300.0

_EXPLODED = 1e6
"""The contrastive loss of unit embeddings at a logit scale of 100 is below 200 + log(batch size)."""


class TrainingDiverged(RuntimeError):
    """The loss or a weight is not finite, or the loss has exploded."""


class Trainer:
    """Trains `encoder` in place on `pairs` with `defense`; every rank runs it.

    Parameters
    ----------
    spec : RunSpec
    train : TrainSpec
        The training options of the spec, with those that the defense replaces.
    pairs, captions, encoder, defense
    checkpoint : Path
        Written by rank 0: every `checkpoint_seconds`, before the scoring that ends an epoch, and at the end.
    progress : TrainingProgress
    stop : callable
        Once true, the run ends with KeyboardInterrupt after a checkpoint, or immediately within selection or scoring.
    guide : callable, optional
        Loads the model that the defense selects pairs with, on rank 0 alone.
    ranks : Ranks, optional
        By default a single process.
    classes : callable, optional
        Embeds the prompts of the data set's classes, for defenses that ask for them.
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
        classes: Classes | None = None,
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
        self.classes = classes
        self.ranks = ranks or Ranks()
        self.views = Views(spec, train, pairs, captions, encoder, self.ranks)
        self.held = HeldModules(defense, encoder.device)
        self.loss = joint_loss(defense, encoder, self.held, self.ranks)
        self.optimizer = adamw([encoder, self.held], train)
        self.scaler = torch.amp.GradScaler(encoder.device.type, enabled=train.precision == "fp16")
        self.position = Position()
        self.curves: list[dict[str, Any]] = []
        self.meter = EpochMeter()
        self.stages = Stages()
        self._losses = AsyncLosses()
        self._order = keys.order_parts(spec, pairs.digest)
        self._gradients = GradientCheck(self.optimizer, defense)

    def run(self) -> Trained:
        """Train to the end, from the checkpoint if there is one."""
        if not self._resume() and self.guide is not None:
            self.progress.stage("selecting pairs")
            self._timed("selection", partial(self._select, self.guide))
            self._save()
        saved = time.monotonic()
        scorer = PairScorer(self.encoder, self.pairs, self.captions, self.stop, self.ranks, self.classes)
        for epoch in range(self.position.epoch, self.train.epochs):
            if self.position.phase == self.position.step == 0:
                seed_everything(*self._order, "before", epoch)
                self._timed("scoring", partial(self.defense.before_epoch, epoch, scorer))
            phases = self.ranks.broadcast(list(self.defense.phases(epoch)))
            while self.position.phase < len(phases):
                for _ in self.steps(phases, epoch):
                    if self.ranks.any(self.stop()):
                        self._save()
                        self.ranks.barrier()
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
        if self.ranks.is_main:
            scorer = guide()
            seed_everything(*self._order, "select")
            self.defense.select(scorer)
        if self.ranks.count > 1:
            self.defense.load_state_dict(self.ranks.broadcast(self.defense.state_dict()))

    def steps(self, phases: list[Phase], epoch: int) -> Generator[None, None, None]:
        """Train the remaining steps of the current phase; yields after each."""
        number = self.position.phase
        phase = phases[number]
        indices = np.arange(len(self.pairs)) if phase.indices is None else phase.indices
        rng = keys.generator(*self._order, epoch, number)
        steps = batches(indices, self.train.batch_size, rng)
        todo = steps[self.position.step :]
        clock = time.perf_counter()
        self.encoder.train()
        if phase.eval_norm:
            eval_norm(self.encoder)
        step_indices = ((epoch, number, step) for step in range(self.position.step, len(steps)))
        for index, batch in prefetch(self._loaded(phase, rows, index) for rows, index in zip(todo, step_indices, strict=True)):
            self.stages.add("load", time.perf_counter() - clock)
            passed = (number + (self.position.step + 0.5) / len(steps)) / len(phases)
            self._set_lr(phase, epoch + passed)
            loss = self._step(phase, batch, index)
            self._losses.put(phase.name, epoch, self.position.step, loss)
            self._average(self._losses.ready())
            self.meter.add_time(time.perf_counter() - clock, pairs=len(batch.indices))
            self.position.step += 1
            self.progress.step((epoch + passed) / self.train.epochs, self.meter.pairs_per_second, self.meter.loss)
            yield
            clock = time.perf_counter()

    def _step(self, phase: Phase, loaded: Batch, index: StepIndex) -> torch.Tensor:
        with self.stages("augment"):
            batch = self.views.draw(phase, loaded, index)
        seed_everything(*self._order, "step", *index)
        with self.stages("forward"):
            loss = self.loss(batch, phase)
        self._gradients.check(loss, phase.name)
        with self.stages("backward"):
            self.scaler.scale(loss).backward()
        with self.stages("optimiser"):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.encoder.clamp_logit_scale()
        return loss

    def _loaded(self, phase: Phase, rows: NDArray[np.int64], index: StepIndex) -> tuple[StepIndex, Batch]:
        return index, self.views.load(phase, rows, index)

    def _timed(self, stage: str, action: Callable[[], None]) -> None:
        started = time.perf_counter()
        with interruptible(self.stop, single_process=self.ranks.count == 1):
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
        """Add losses to the means of the epoch. Raises TrainingDiverged on every rank if a loss diverged on any."""
        finite = list(takewhile(lambda loss: abs(loss.value) < _EXPLODED, losses))
        for loss in finite:
            self.meter.add_loss(loss)
        if self.ranks.any(len(finite) < len(losses)):
            if len(finite) == len(losses):
                raise self._diverged("the loss of another rank diverged", self.position.epoch, self.position.step)
            bad = losses[len(finite)]
            raise self._diverged(f"the loss became {bad.value:g}", bad.epoch, bad.step)

    def _check_weights(self) -> None:
        """Raise TrainingDiverged if the last step, whose loss was computed before it, broke the weights."""
        for name, value in self.encoder.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise self._diverged(f"the weights {name} are not finite", self.position.epoch, self.position.step)

    def _diverged(self, what: str, epoch: int, step: int) -> TrainingDiverged:
        mean = "" if math.isnan(self.meter.loss) else f"the mean loss before it was {self.meter.loss:.3g}, "
        return TrainingDiverged(
            f"{what} in epoch {epoch}, step {step}: {mean}the logit scale is "
            f"{float(self.encoder.logit_scale.detach()):.3g}; "
            f"a lower learning rate (train.lr, now {self.train.lr:g}) or precision fp32 may help"
        )

    def _end_epoch(self, epoch: int, scorer: PairScorer, phases: Sequence[Phase]) -> None:
        seed_everything(*self._order, "after", epoch)
        self._timed("scoring", partial(self.defense.after_epoch, epoch, scorer))
        observed = poison_telemetry(self.defense.observed(), self.pairs.poisoned)
        if epoch == 0 and "similarity_clean" not in observed:
            observed |= sampled_histograms(scorer, self.pairs.poisoned, keys.generator(*self._order, "first look"))
        curve: dict[str, Any] = {
            "epoch": epoch,
            **self.meter.numbers,
            **clip_steps(phases, self.meter.numbers, len(self.pairs)),
            "pairs_per_second": self.meter.pairs_per_second,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "logit_scale": float(self.encoder.logit_scale.detach()),
            **self.defense.telemetry(),
            **observed,
        }
        self.curves.append(curve)
        self.progress.epoch(curve, self.train.epochs)
        self.meter = EpochMeter()
        self.position = Position(epoch + 1, 0, 0)

    def _save(self) -> None:
        self._average(self._losses.ready(keep=0))
        if not self.ranks.is_main:
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
        """Restore the newest readable checkpoint; False if there is none."""
        found, damaged = self.ranks.broadcast(Checkpoint.newest(self.checkpoint) if self.ranks.is_main else (None, []))
        if damaged:
            then = "training starts over" if found is None else "the previous one is used"
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
            raise RuntimeError(
                f"checkpoints in {folder} belong to another training; delete them and use --retry-failed"
            ) from error
        self.position, self.curves, self.meter = found.position, found.curves, EpochMeter(found.partial)
        self.stages.seconds = found.seconds
        return True
