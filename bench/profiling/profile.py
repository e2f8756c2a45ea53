"""The profile of a defense, as figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bench import keys
from bench.matrix.cell import Runtime, prepare
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenSurrogate
from bench.profiling.machine import matmul_rate, peak_cuda, peak_rss, reset_peaks
from bench.profiling.measure import Limit, PhaseTimes, Times, measure, phase_stages
from bench.training.trainer import Trainer

Profile = dict[str, Any]
"""What `profile` gives; numbers are seconds, bytes, pairs, FLOP and FLOP/s of a whole training."""


def profile(
    cell: Cell,
    workspace: Workspace,
    device: torch.device,
    limit: Limit,
    then: Callable[[Trainer, list[PhaseTimes]], None] | None = None,
) -> Profile:
    """Train a cell for a short while from fresh weights; nothing is kept. `then` is given the trainer and what was measured."""
    if cell.surrogate is not None:
        workspace.craft(cell.spec, _untrained(cell, workspace, device))
    workspace.bundle.train.images.load(np.arange(1))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(device, MatrixProgress(Console(quiet=True), 1), lambda: False)
        trainer, _ = prepare(cell.spec, None, workspace, Store(Path(folder)), runtime)
        setup = time.perf_counter() - started
        reset_peaks(device)
        times = measure(trainer, limit)
        peaks = {"rss": peak_rss(), "cuda": peak_cuda(device)}
        if then is not None:
            then(trainer, times.phases)
    found = figures(times, matmul_rate(_dtype(trainer), device))
    return {
        "defense": cell.spec.defense.name,
        "train_pairs": len(trainer.pairs),
        "epochs": trainer.train.epochs,
        "batch_size": trainer.train.batch_size,
        "precision": trainer.train.precision,
        "setup_seconds": setup,
        "peak_bytes": peaks,
        **found,
    }


def figures(times: Times, matmul: float) -> Profile:
    """`matmul` is the machine's FLOP/s of a matrix product."""
    phases = []
    flops = 0.0
    for phase in times.phases:
        seconds = phase.seconds * phase.factor
        flops += phase.flops * phase.whole_steps
        phases.append(
            {
                "phase": phase.name,
                "measured_steps": phase.steps,
                "pairs": phase.whole_pairs,
                "seconds": seconds,
                "pairs_per_second": phase.whole_pairs / seconds,
                "stages": phase_stages(phase),
                "flop_per_pair": phase.flops * phase.whole_steps / phase.whole_pairs,
                "flop_per_second": phase.flops * phase.whole_steps / seconds,
            }
        )
    stages = times.stages()
    return {
        "phases": phases,
        "pairs": times.pairs,
        "seconds": times.seconds,
        "pairs_per_second": times.pairs / times.seconds,
        "stages": stages,
        "shares": {name: seconds / times.seconds for name, seconds in stages.items()},
        "flop_per_second": flops / times.seconds,
        "matmul_flop_per_second": matmul,
    }


def _untrained(cell: Cell, workspace: Workspace, device: torch.device) -> FrozenSurrogate:
    """A stand-in for the model that an attack is crafted against: what training takes does not depend on it."""
    model = factory.create(cell.spec.model.name, keys.seed_of(*keys.initial_parts(cell.spec)))
    return FrozenSurrogate(ClipEncoder(model, "fp32", device), workspace.tokens)


def _dtype(trainer: Trainer) -> torch.dtype:
    return torch.bfloat16 if trainer.train.precision == "bf16" else torch.float32
