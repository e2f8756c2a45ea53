"""Pairs per second of open_clip's own trainer, by its log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import bench
from bench.benchmarks.training import WARM, Training
from bench.errors import UserError

INSTALL = "pip install 'open_clip_torch[training]'"
_PRECISIONS = {"fp32": "fp32", "bf16": "amp_bf16", "fp16": "amp"}
"""Names of open_clip for ours."""
_RATE = re.compile(r"Batch \(t\): [\d.]+, ([\d.e+]+)/s,")


def installed() -> bool:
    return all(find_spec(name) for name in ("open_clip_train", "webdataset"))


def pairs_per_second(
    training: Training, folder: Path, format: str, steps: int, workers: int, device: torch.device, compiled: bool = False
) -> float:
    """Of an epoch of `steps` measured steps on files of `bench.benchmarks.pairs`, with `workers` loading processes.

    Each step is logged, which waits for the device. Raises UserError if the trainer fails.
    """
    files = {
        "csv": ("--dataset-type", "csv", "--train-data", "train.csv", "--csv-separator", ","),
        "webdataset": ("--dataset-type", "webdataset", "--train-data", "::".join(map(str, sorted(folder.glob("train/*.tar"))))),
    }
    command = [sys.executable, "-m", "bench.export.open_clip", *files[format], "--model", training.model]
    command += ["--device", str(device), "--precision", _PRECISIONS[training.precision]]
    command += ["--batch-size", str(training.batch_size)]
    command += ["--workers", str(workers), "--epochs", "1", "--warmup", "1", "--log-every-n-steps", "1"]
    command += ["--train-num-samples", str(training.pairs(steps)), "--logs", "none", *["--torchcompile"] * compiled]
    paths = os.pathsep.join([str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    rates = [float(rate) for rate in _RATE.findall(done.stdout + done.stderr)][WARM : WARM + steps]
    if done.returncode or len(rates) < steps:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"open_clip's trainer ended after {len(rates)} of {steps} steps: {last.removeprefix('bench: ')}")
    return 1 / float(np.mean([1 / rate for rate in rates]))
