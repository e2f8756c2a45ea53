"""The profile of a defense, as numbers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bench.errors import UserError
from bench.matrix.cell import prepare, write_untrained
from bench.matrix.evaluation import CellModels
from bench.matrix.expand import Cell
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace
from bench.models.encoder import HALF
from bench.profiling.machine import matmul_rate, peak_cuda, peak_rss, reset_peaks
from bench.profiling.measure import PhaseTimes, StepLimit, TrainingTimes, measure, phase_stages
from bench.training.memory import MEMORY_HINT
from bench.training.trainer import Trainer

Profile = dict[str, Any]
"""The result of `profile`, for a whole training: seconds, bytes, pairs, FLOP and FLOP/s."""


def profile(
    cell: Cell,
    workspace: Workspace,
    device: torch.device,
    limit: StepLimit,
    then: Callable[[Trainer, list[PhaseTimes]], None] | None = None,
) -> Profile:
    """Profile the training of a cell, with untrained models as its dependencies. Nothing is stored.

    `then` is called with the trainer and the measured phases.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for needed in (cell.surrogate, cell.start, cell.guide):
            if needed is not None:
                write_untrained(needed, store)
        if cell.surrogate is not None:
            workspace.craft(cell.spec, CellModels(workspace, store, device).surrogate(cell.surrogate))
        workspace.bundle.train.images.load(np.arange(1))
        started = time.perf_counter()
        runtime = Runtime(device, MatrixProgress(Console(quiet=True), 1), lambda: False)
        try:
            trainer, _ = prepare(cell, workspace, store, runtime)
        except MemoryError as error:
            raise UserError(f"{cell.title}: {error}; {MEMORY_HINT}") from None
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


def figures(times: TrainingTimes, matmul: float) -> Profile:
    """Derived numbers; `matmul` is the machine's FLOP/s of a matrix product.

    `outside_with_scoring_forward` is the share of time outside the forward, backward and optimiser stages of training steps;
    `outside_without_scoring_forward` excludes the forward passes of scoring too.
    """
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
    shares = {name: seconds / times.seconds for name, seconds in stages.items()}
    outside = 1 - sum(shares.get(stage, 0.0) for stage in ("forward", "backward", "optimiser"))
    return {
        "phases": phases,
        "pairs": times.pairs,
        "seconds": times.seconds,
        "pairs_per_second": times.pairs / times.seconds,
        "stages": stages,
        "shares": shares,
        "outside_with_scoring_forward": outside,
        "outside_without_scoring_forward": outside - shares["scoring_forward"],
        "flop_per_second": flops / times.seconds,
        "matmul_flop_per_second": matmul,
    }


def _dtype(trainer: Trainer) -> torch.dtype:
    return HALF.get(trainer.train.precision, torch.float32)
