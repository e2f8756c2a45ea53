"""Cells as jobs of submitit, here processes of this machine, give the records of one process."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import SMALL, Bench, started
from .traces import SOURCE, check_none_twice, lines, values

submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'clip-poison-bench[submitit]'")

ON_SLURM = ("--executor", "submitit", "--slurm", "cluster=local")
TWO = ("run", *SMALL, "--attack", "none", "--defense", "clip,cleanclip", "--evaluator", "zero_shot", "--precision", "fp32")
ONE = ("run", *SMALL, "--attack", "none", "--evaluator", "zero_shot", "--precision", "fp32")

FAILS = '''
"""A defense that fails, and one whose process is killed."""
import os, signal
from bench.registry import register_defense
from bench.defenses.clip import CLIP

@register_defense("failing")
class Failing(CLIP):
    """Raises."""
    def loss(self, batch, encoder, phase):
        raise ZeroDivisionError("no reason")

@register_defense("killed")
class Killed(CLIP):
    """Has its process killed."""
    def loss(self, batch, encoder, phase):
        os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin file that notes trainings, and beside it what it notes."""
    (tmp_path / "tracing.py").write_text(SOURCE)
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    return tmp_path / "trace"


@pytest.fixture(autouse=True)
def _jobs_find_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))


def _wait(true: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _failures(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in out.glob("runs/*/failure.json")]


def test_a_cell_and_one_that_builds_on_it(bench: Bench, trace: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = (*TWO, "--plugin", trace.with_name("tracing.py"), *ON_SLURM, "--out", out)
    done = bench(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "[2/2]" in done.out
    check_none_twice(trace, out)
    assert [word for word, _, _ in lines(trace)] == ["begin", "end", "begin", "end"]
    assert len({process for _, _, process in lines(trace)}) == 2
    assert not list((out / "slurm").glob("*/*"))

    again = bench(*arguments)
    assert (again.code, again.out.count("already on record"), len(lines(trace))) == (0, 2, 4)
    assert bench(*TWO, "--out", whole).code == 0
    assert values(out) == values(whole)
    assert (out / "report" / "results.csv").read_bytes() == (whole / "report" / "results.csv").read_bytes()


def test_cells_that_fail_and_bad_input(bench: Bench, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    plugin, out = tmp_path / "fails.py", tmp_path / "out"
    plugin.write_text(FAILS)
    arguments = (*ONE, "--plugin", plugin, *ON_SLURM, "--out", out)
    failed = bench(*arguments, "--defense", "failing,killed")
    assert failed.code == 1
    thrown, lost = sorted(_failures(out), key=lambda failure: failure["stage"])
    assert (thrown["stage"], thrown["error"]) == ("train", "ZeroDivisionError: no reason")
    assert 'raise ZeroDivisionError("no reason")' in thrown["traceback"]
    (log,) = (out / "slurm").glob("*/*_log.err")
    assert lost["stage"] == "worker"
    assert lost["error"].startswith(f"job {log.parent.name} was lost (")
    assert f"its log is in slurm/{log.parent.name} of the results folder; --retry-failed" in lost["error"]
    assert "FAILED worker: job" in failed.out

    picky = bench(*ONE, "--plugin", trace.with_name("tracing.py"), *ON_SLURM, "--defense", "picky", "--out", out)
    assert (picky.code, picky.err) == (2, "bench: defense.picky: nothing pleases it; choose another\n")


def _begun(trace: Path, word: str) -> int:
    """The process that trains, once it is in its first steps."""
    _wait(lambda: any(line[0] == word for line in lines(trace)))
    time.sleep(1)
    return next(int(process) for said, _, process in lines(trace) if said == word)


def test_preempted_and_interrupted(bench: Bench, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job resumes its cell after submitit's signal; after Ctrl-C the same command does."""
    monkeypatch.setenv("WAIT", "0.3")
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = (*ONE, "--set", "train.epochs=8", "--defense", "clip")
    on_slurm = (*arguments, "--plugin", trace.with_name("tracing.py"), *ON_SLURM, "--out", out)
    command = started(*on_slurm)
    os.kill(_begun(trace, "begin"), signal.SIGUSR2)
    _begun(trace, "resumed")
    assert len([path for path in (out / "slurm").iterdir() if path.name.isdecimal()]) == 1
    assert command.poll() is None
    command.send_signal(signal.SIGINT)
    errors = command.communicate(timeout=300)[1]  # and, of submitit's local executor, what its jobs print when cancelled
    assert "bench: interrupted; run the same command again to resume\n" in errors
    assert command.returncode == 130
    assert list(out.glob("runs/*/checkpoint.pt"))

    monkeypatch.delenv("WAIT")
    assert bench(*on_slurm).code == 0
    assert [word for word, _, _ in lines(trace)] == ["begin", "resumed", "resumed", "end"]
    assert bench(*arguments, "--out", whole).code == 0
    assert values(out) == values(whole)


def test_a_command_that_dies_leaves_its_jobs_and_another_waits_for_them(bench: Bench, trace: Path, tmp_path: Path) -> None:
    arguments = (*ONE, "--set", "train.epochs=4", "--defense", "clip", "--plugin", trace.with_name("tracing.py"))
    on_slurm = (*arguments, *ON_SLURM, "--out", tmp_path / "out")
    command = started(*on_slurm, WAIT=0.3)
    _begun(trace, "begin")
    command.kill()
    command.communicate()
    again = bench(*on_slurm)
    assert (again.code, again.err) == (0, "")
    assert [word for word, _, _ in lines(trace)] == ["begin", "end"]
