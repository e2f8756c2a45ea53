"""How long it takes yet, by a clock of the test's own; an interrupted run's share of the work tells nothing of the pace."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.cluster import progress as cluster_progress
from bench.cluster.progress import ClusterProgress
from bench.matrix import progress as matrix_progress
from bench.matrix import remaining
from bench.matrix.heartbeat import HeartbeatState
from bench.matrix.progress import MatrixProgress

SECONDS_A_STEP = 7.0
EPOCHS, STEPS = 20, 10


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        for module in (remaining, matrix_progress, cluster_progress):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.mark.parametrize("first", [0, 3, 145, 150, 189], ids=lambda step: f"from step {step}")
def test_the_eta_of_a_run_that_goes_on(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    clock, said = Clock(monkeypatch), io.StringIO()
    progress = MatrixProgress(Console(file=said), 1)
    progress.cell_started("cell")
    clock.now += 30  # to open data and model
    for step in range(first, EPOCHS * STEPS):
        clock.now += SECONDS_A_STEP
        progress.step((step + 0.5) / (EPOCHS * STEPS), 1.0, 1.0)
        if (step + 1) % STEPS == 0:
            progress.epoch({"epoch": step // STEPS, "loss": 1.0, "pairs_per_second": 1.0}, EPOCHS)
    told = {int(done): float(eta) for done, eta in re.findall(r"epoch (\d+)/20 .*ETA (\d+) s", said.getvalue())}
    assert EPOCHS in told
    for done, eta in told.items():
        steps = done * STEPS - first
        if steps > 1:
            exact = (EPOCHS - done) * STEPS * SECONDS_A_STEP
            assert eta == pytest.approx(exact, rel=1 / steps, abs=1), done


def test_an_epoch_that_was_only_to_be_scored_has_no_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), io.StringIO()
    progress = MatrixProgress(Console(file=said), 1)
    progress.cell_started("cell")
    clock.now += 5
    progress.epoch({"epoch": 14, "loss": 1.0, "pairs_per_second": 1.0}, EPOCHS)
    assert "epoch 15/20" in said.getvalue()
    assert "ETA" not in said.getvalue()


def test_a_second_cell_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), io.StringIO()
    progress = MatrixProgress(Console(file=said), 2)
    for seconds in (100.0, 1.0):
        progress.cell_started("cell")
        for step in range(4):
            clock.now += seconds
            progress.step((step + 0.5) / 8, 1.0, 1.0)
        progress.epoch({"epoch": 0, "loss": 1.0, "pairs_per_second": 1.0}, 2)
    first, second = (float(eta) for eta in re.findall(r"ETA (\d+) s", said.getvalue()))
    assert first / second == pytest.approx(100, rel=0.2)


def _cell(key: str) -> Any:
    return SimpleNamespace(key=key, title=key)


def test_the_eta_of_a_cluster_counts_what_it_did_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch), io.StringIO()
    progress = ClusterProgress(Console(file=said, width=300), 4)
    one, two = _cell("one"), _cell("two")

    def beat(share: float | None, first: float | None) -> HeartbeatState:
        return HeartbeatState("host", 1, since=0, at=0, share=share, first=first)

    progress.show([(one, beat(None, None)), (two, beat(None, None))])
    clock.now += 100
    progress.show([(one, beat(0.9, 0.8)), (two, beat(0.1, 0.0))])  # a fifth of a cell in 100 s
    assert progress._summary(2, 1.0).endswith(f"ETA {100 / 0.2 * 3:.0f} s")
    progress.cell_ended(one, "done")
    assert progress._summary(1, 0.1).endswith(f"ETA {100 / 0.3 * 2.9:.0f} s")
    progress.cell_ended(two, "failed")
    assert progress._summary(0, 0.0).endswith(f"ETA {100 / 0.2 * 2:.0f} s")
