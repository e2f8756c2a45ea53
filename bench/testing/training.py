"""Train a defense for a few steps with the real trainer, recording its calls."""

from __future__ import annotations

import copy
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Batch, Defense, Encoder, ImageView, Phase, PoisonPlan, TextView, TrainRecipe, TrainSetup
from bench.config import TrainSpec
from bench.data.captions import PoisonedCaptions
from bench.data.elements import elements
from bench.data.poisoned import PoisonedPairs
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip
from bench.registry import Entry
from bench.testing import small
from bench.training import trainer
from bench.training.checkpoint import Checkpoint
from bench.training.held import construct
from bench.training.scorer import PairScorer
from bench.training.trainer import Trainer


@dataclass
class DefenseSpy:
    """Wraps a defense and records its results; invalid phases and losses raise AssertionError."""

    defense: Defense
    losses: list[float] = field(default_factory=list)
    telemetries: list[dict[str, Any]] = field(default_factory=list)
    observations: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    unreached: set[str] = field(default_factory=set)
    _phases: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.defense, name)

    def phases(self, epoch: int) -> Sequence[Phase]:
        phases = self.defense.phases(epoch)
        assert phases, f"phases({epoch}) is empty; an epoch needs at least one phase"
        for phase in phases:
            _check_phase(phase, self.defense.setup.pairs)
        return phases

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        loss = self.defense.loss(batch, encoder, phase)
        where = f"the loss of phase '{phase.name}'"
        assert isinstance(loss, torch.Tensor), f"{where} is a {type(loss).__name__}, not a tensor"
        assert loss.shape == (), f"{where} has the shape {tuple(loss.shape)}; it must be a scalar"
        assert torch.isfinite(loss), f"{where} is {loss.item()}"
        assert loss.requires_grad, f"{where} has no gradient"
        if phase.name not in self._phases and not _reaches(loss, cast(ClipEncoder, encoder)):
            self.unreached.add(phase.name)
        self._phases.add(phase.name)
        self.losses.append(loss.item())
        return loss

    def telemetry(self) -> dict[str, float]:
        self.telemetries.append(self.defense.telemetry())
        return self.telemetries[-1]

    def observed(self) -> dict[str, NDArray[Any]]:
        self.observations.append(self.defense.observed())
        return self.observations[-1]


def _check_phase(phase: Phase, pairs: int) -> None:
    where = f"phase '{phase.name}'"
    unknown = {*phase.image_views} - {*get_args(ImageView)} | {*phase.text_views} - {*get_args(TextView)}
    assert not unknown, f"{where} asks for unknown views: {', '.join(sorted(unknown))}"
    assert phase.lr is None or 0 <= phase.lr < float("inf"), f"{where} has the learning rate {phase.lr}"
    assert 0 <= phase.lr_share < float("inf"), f"{where} has the learning-rate share {phase.lr_share}"
    if phase.indices is None:
        return
    indices = phase.indices
    assert isinstance(indices, np.ndarray), f"{where}: indices is a {type(indices).__name__}, not an int64 array"
    assert indices.dtype == np.int64, f"{where}: indices has type {indices.dtype}, not int64"
    assert indices.ndim == 1, f"{where}: indices has {indices.ndim} dimensions"
    assert len(indices), f"{where} has no pairs"
    assert 0 <= indices.min() <= indices.max() < pairs, f"{where} has indices outside 0..{pairs - 1}"
    assert len(np.unique(indices)) == len(indices), f"{where} has a pair more than once"


def _reaches(loss: torch.Tensor, encoder: ClipEncoder) -> bool:
    """Whether the loss has a gradient in the encoder."""
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


class TrainingFixture:
    """A small poisoned training set; with `relabelled` the content is the same, but other pairs are marked as poisoned."""

    def __init__(self, entry: Entry[Defense], relabelled: bool = False) -> None:
        attack, self.plan = small.stamp()
        self.pairs = PoisonedPairs(small.bundle(), attack, self.plan)
        self.spec = small.spec_of(entry)
        self.params = small.params_of(entry)
        train = self.spec.train
        base = TrainRecipe(len(self.pairs), train.epochs, train.lr, train.batch_size)
        self.recipe = TrainSpec.model_validate({**train.model_dump(), **entry.plugin.training(self.params, base)})
        self._plugin = entry.plugin
        self._known = self.pairs.trusted(keys.generator("small", "trusted"))
        if relabelled:
            self.plan = _relabelled(self.pairs, self.plan)
        self.captions = small.captions(self.pairs.captions)

    def defense(self) -> Defense:
        known = copy.deepcopy(self._known)  # nothing has been drawn from it yet
        setup = TrainSetup(
            pairs=len(self.pairs),
            epochs=self.recipe.epochs,
            lr=self.recipe.lr,
            batch_size=self.recipe.batch_size,
            embed_dim=small.EMBED_DIM,
            trunk_dim=small.TRUNK_DIM,
            device=small.CPU,
            rng=lambda purpose: keys.generator("small", "defense", purpose),
            trusted=known.draw,
            labels=known.labels,
            named=lambda: self.pairs.named(small.bundle().vocabulary),
            classes=len(small.bundle().vocabulary.names),
            elements=lambda: elements(self.pairs.captions, small.bundle(), small.tokenize),
        )
        return construct(self._plugin, self.params, setup, "small")

    def train(self, spy: DefenseSpy, encoder: ClipEncoder, checkpoint: Path, max_steps: int) -> bool:
        """Train to the end, or for `max_steps` steps if that is not 0. Return whether the end was reached."""
        defense, stop = cast(Defense, spy), lambda: 0 < max_steps <= len(spy.losses)
        guide = self._guide if self._plugin.selects_with(self.params) else None
        parts = (self.spec, self.recipe, self.pairs, self.captions, encoder, defense, checkpoint, _Silent(), stop)
        try:
            Trainer(*parts, guide=guide, classes=_classes).run()
        except KeyboardInterrupt:
            return False
        return True

    def _guide(self) -> PairScorer:
        return PairScorer(small.encoder(1), self.pairs, self.captions)


def _classes(encoder: ClipEncoder) -> torch.Tensor:
    return FrozenClip(encoder, small.tokenize).classifier(small.bundle().vocabulary)


class _Silent:
    def stage(self, name: str) -> None: ...

    def step(self, share: float, pairs_per_second: float, loss: float) -> None: ...

    def epoch(self, curve: dict[str, Any], epochs: int) -> None: ...

    def note(self, text: str) -> None: ...


def _relabelled(pairs: PoisonedPairs, plan: PoisonPlan) -> PoisonPlan:
    """Invert every mark of which pairs are poisoned, leaving pixels and captions unchanged."""
    every = np.arange(len(pairs))
    pixels = pairs.load(every).numpy()
    pairs._poison_of, pairs._poison_pixels, pairs.poisoned = every, pixels, ~pairs.poisoned
    pairs.captions = PoisonedCaptions([], list(pairs.captions), every, every)
    moved = tuple(poison.model_copy(update={"index": poison.index + 1}) for poison in plan.poisons)
    return plan.model_copy(update={"poisons": moved})


@dataclass
class TrainingResult:
    """A finished training: the recorded calls, the final weights, and the code that read which pairs are poisoned."""

    spy: DefenseSpy
    fixture: TrainingFixture
    weights: dict[str, torch.Tensor]
    mask_readers: list[str]


def train(entry: Entry[Defense], global_seed: int = 0, relabelled: bool = False, interrupt_every: int = 0) -> TrainingResult:
    """Train a defense from scratch.

    Parameters
    ----------
    entry : Entry
        The defense.
    global_seed : int
        Seed of torch's global generator, which must not matter.
    relabelled : bool
        Change which pairs are marked as poisoned, which must not matter either.
    interrupt_every : int
        If positive, interrupt after this many steps and resume in a new trainer.
    """
    torch.manual_seed(global_seed)
    fixture = TrainingFixture(entry, relabelled)
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder, _watched_mask() as readers:
        checkpoint = Path(folder) / "checkpoint.pt"
        finished = False
        while not finished:
            spy, encoder = DefenseSpy(fixture.defense()), small.encoder()
            finished = fixture.train(spy, encoder, checkpoint, interrupt_every)
            losses += spy.losses
            assert Checkpoint.load(checkpoint), "the checkpoint cannot be read back because of the content of state_dict()"
    spy.losses = losses
    del fixture.pairs, fixture.plan  # so that a search of memory during another run does not find these
    return TrainingResult(spy, fixture, encoder.state_dict(), readers)


@contextmanager
def _watched_mask() -> Iterator[list[str]]:
    """Collect the code locations that read which pairs are poisoned, except the trainer's own, for telemetry."""
    readers: list[str] = []

    def read(pairs: PoisonedPairs) -> Any:
        frame = traceback.extract_stack(limit=2)[0]
        if frame.filename != trainer.__file__:
            readers.append(f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})")
        return vars(pairs)["poisoned"]

    with mock.patch.object(PoisonedPairs, "poisoned", property(read), create=True):
        yield readers
