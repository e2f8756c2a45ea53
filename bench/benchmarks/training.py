"""The trainer of a cell of plain CLIP, as `bench run` builds it, and its speed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console

from bench.data.files import CachedImages
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.matrix.cell import prepare
from bench.matrix.device import synchronize
from bench.matrix.expand import NO_ATTACK, UNDEFENDED, Matrix, MatrixRequest, expand
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.training.checkpoint import Position
from bench.training.trainer import Trainer

WARM = 5
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Training:
    """What is trained: plain CLIP, by the recipe for small images but for these."""

    model: str
    batch_size: int
    precision: str

    def pairs(self, steps: int) -> int:
        """Training pairs of an epoch of `steps` measured steps."""
        return (WARM + steps) * self.batch_size

    def request(self, data: str, root: Path | None, options: tuple[str, ...]) -> MatrixRequest:
        return MatrixRequest(
            data,
            [NO_ATTACK],
            [UNDEFENDED],
            ["zero_shot"],
            data_root=root,
            model=self.model,
            precision=self.precision,
            recipe="small",
            options=(f"train.batch_size={self.batch_size}", *options),
        )


def matrix_of(request: MatrixRequest) -> Matrix:
    load_plugins(())
    return expand(request)


@contextmanager
def trainer_of(request: MatrixRequest, device: torch.device, in_memory: bool = False) -> Iterator[Trainer]:
    """The trainer of the request's only cell; its images are decoded in advance, or else whenever a batch needs them."""
    matrix = matrix_of(request)
    (cell,) = matrix.cells
    images = matrix.workspace.bundle.train.images
    if in_memory:
        matrix.workspace.preload(lambda count: None)
    elif isinstance(images, CachedImages):
        images.forget()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(device, MatrixProgress(Console(quiet=True), 1), lambda: False)
        yield prepare(cell, matrix.workspace, Store(Path(folder)), runtime)[0]


def pairs_per_second(trainer: Trainer, steps: int) -> float:
    """Of the first `steps` steps of an epoch after `WARM`. Raises UserError if it has fewer."""
    size = trainer.train.batch_size
    if len(trainer.pairs) < (WARM + steps) * size:
        raise UserError(
            f"--steps {steps}: {len(trainer.pairs):,} training pairs are fewer than {WARM} + {steps} batches of {size}; "
            "lower --steps or --batch-size"
        )
    trainer.position = Position()
    with closing(trainer.steps(list(trainer.defense.phases(0)), 0)) as done:
        for _ in islice(done, WARM):
            pass
        synchronize(trainer.encoder.device)
        started = time.perf_counter()
        for _ in islice(done, steps):
            pass
        synchronize(trainer.encoder.device)
        return steps * size / (time.perf_counter() - started)
