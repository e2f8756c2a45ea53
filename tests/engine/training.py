"""Cells that stop when told to, and a defense that uses all that a defense may use."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bench.api import Batch, Defense, Encoder, Phase, Scorer
from bench.matrix.expand import Matrix
from bench.matrix.local import LocalExecutor
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.registry import register_defense

TIMES = {"seconds", "pairs_per_second"}


class Recorder(MatrixProgress):
    """Notes stages, counts the steps of training and calls `heard` with the count after each."""

    def __init__(self, heard: Callable[[int], None] | None = None) -> None:
        self.said = io.StringIO()
        super().__init__(Console(file=self.said), 1)
        self.steps = 0
        self.stages: list[str] = []
        self._heard = heard

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def step(self, share: float, pairs_per_second: float, loss: float) -> None:
        self.steps += 1
        if self._heard:
            self._heard(self.steps)


def execute(
    matrix: Matrix,
    store: Store,
    stop_after: int | None = None,
    retry_failed: bool = False,
    heard: Callable[[int], None] | None = None,
    checkpoint_seconds: float = 300.0,
    track: str | None = None,
) -> tuple[dict[str, int], Recorder]:
    """Run a matrix on the CPU, with an interruption after so many steps: outcomes and what was heard of it."""
    recorder = Recorder(heard)
    stop = lambda: stop_after is not None and recorder.steps >= stop_after  # noqa: E731
    runtime = Runtime(torch.device("cpu"), recorder, stop, checkpoint_seconds, track)
    return dict(LocalExecutor(matrix, store, runtime, recorder, retry_failed).run()), recorder


def without_times(curves: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in curve.items() if name not in TIMES} for curve in curves]


def register_restless() -> None:
    """A defense whose every step depends on its state, its random numbers and what it saw of the model."""

    @register_defense("restless")
    class Restless(Defense):
        """Two phases an epoch, the second on the pairs the model likes best."""

        def __init__(self, params: Any, setup: Any) -> None:
            super().__init__(params, setup)
            self.weight = torch.ones(())
            self.steps = 0
            self.chosen = np.arange(0, setup.pairs, 2)
            self.last = 0.0

        def phases(self, epoch: int) -> Sequence[Phase]:
            extra = self.setup.rng(f"extra {epoch}").choice(self.setup.pairs, 64, replace=False)
            best = Phase("best", np.union1d(self.chosen, extra), image_views=("plain", "light"), lr=2e-4)
            return Phase("all"), best

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            self.steps += 1
            texts = encoder.encode_text(batch.texts[0])
            own = torch.arange(len(texts))
            logits = [encoder.logit_scale * encoder.encode_image(images) @ texts.T for images in batch.images]
            losses = torch.stack([torch.nn.functional.cross_entropy(each, own) for each in logits])
            self.weight = 0.9 * self.weight + 0.1 * losses.detach().mean()
            return losses.mean() * (1 + 0.1 * self.weight)

        def after_epoch(self, epoch: int, scorer: Scorer) -> None:
            scores = scorer.similarities()
            self.chosen = np.sort(np.argsort(scores)[-100:])
            self.last = float(scores.mean())

        def state_dict(self) -> dict[str, Any]:
            chosen = torch.from_numpy(self.chosen)
            return {"weight": self.weight, "steps": self.steps, "chosen": chosen, "last": self.last}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.weight, self.steps, self.last = state["weight"], state["steps"], state["last"]
            self.chosen = state["chosen"].numpy()

        def telemetry(self) -> dict[str, float]:
            return {"weight": float(self.weight), "defense_steps": self.steps, "mean_similarity": self.last}
