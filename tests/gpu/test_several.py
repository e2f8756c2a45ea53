"""Two GPUs train one cell as one of them does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.matrix.store import Store
from bench.reports.records import load_runs
from tests.e2e.conftest import SMALL, started

LAUNCH = "import sys; from torch.distributed.run import main; main(sys.argv[1:])"


def test_two_gpus_have_the_losses_of_one(gpu: torch.device, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU here, and two are needed")
    asked = ("run", "--defense", "clip", "--attack", "none", "--evaluator", "zero_shot", "--precision", "fp32", *SMALL)
    launcher = ("--standalone", "--nproc-per-node", "2", "-m", "bench")
    alone = started(*asked, "--device", "cuda", "--jobs", "1", "--out", tmp_path / "one")
    both = started(*launcher, *asked, "--device", "cuda", "--out", tmp_path / "two", start=LAUNCH)
    for process in (alone, both):
        said, errors = process.communicate(timeout=600)
        assert process.returncode == 0, said + errors
    losses, processes = [], []
    for name in ("one", "two"):
        (run,) = load_runs(Store.open(tmp_path / name))
        assert run.record
        losses.append([curve.loss for curve in run.record.curves])
        processes.append(run.record.provenance.processes)
    assert processes == [1, 2]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
