"""Cells side by side give the records of one after the other, and none of their processes can break or outlive the rest."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.jobs import memory

from .conftest import SMALL, Bench, results, started
from .crashes import differences
from .test_shards import FOUR, MATRIX
from .traces import SOURCE, check_none_twice, lines, values

ENDS = '''
"""Defenses that end in many ways."""
import os, signal
from bench.registry import register_defense
from bench.defenses.clip import CLIP

class Ending(CLIP):
    def loss(self, batch, encoder, phase):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3 and "HARMLESS" not in os.environ:
            self.end()
        return super().loss(batch, encoder, phase)

@register_defense("failing")
class Failing(Ending):
    """Raises."""
    def end(self):
        raise ZeroDivisionError("no reason")

@register_defense("killed")
class Killed(Ending):
    """Has its process killed."""
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

'''

LONG = ("--set", "train.epochs=6")


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin file that notes trainings, and beside it what it notes."""
    (tmp_path / "tracing.py").write_text(SOURCE)
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    return tmp_path / "trace"


def _wait(true: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _processes(trace: Path) -> set[int]:
    return {int(process) for _, _, process in lines(trace)}


def _lives(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_records_are_those_of_one_process(bench: Bench, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    out, whole = tmp_path / "out", tmp_path / "whole"
    beside = bench(*FOUR, "--plugin", trace.with_name("tracing.py"), "--jobs", "2", "--out", out)
    assert (beside.code, beside.err) == (0, "")
    assert "2 cells in parallel, each on 1 CPU thread\n" in beside.out
    assert all(f"[{number}/4] done in " in beside.out for number in (1, 2, 3, 4))
    assert len(_processes(trace)) == 2
    check_none_twice(trace, out)
    assert not [path for folder in (out, tmp_path / "cache") for path in folder.rglob("*") if path.name.startswith(".")]
    assert bench(*FOUR, "--out", whole).code == 0
    assert values(out) == values(whole)
    assert (out / "report" / "results.csv").read_bytes() == (whole / "report" / "results.csv").read_bytes()
    again = bench(*FOUR, "--jobs", "2", "--out", out)
    assert (again.code, again.out.count("already on record"), "in parallel" in again.out) == (0, 4, False)


def test_a_cell_that_fails_and_a_process_that_dies(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, out, whole = tmp_path / "ends.py", tmp_path / "out", tmp_path / "whole"
    plugin.write_text(ENDS)
    matrix = ("run", *SMALL, "--evaluator", "zero_shot", "--attack", "none", "--defense", "failing,killed,clip")
    arguments = (*matrix, "--plugin", plugin, "--checkpoint-minutes", "0")
    ended = bench(*arguments, "--jobs", "2", "--out", out)
    assert ended.code == 1
    line = ENDS.splitlines().index('        raise ZeroDivisionError("no reason")') + 1
    assert f"FAILED train: ZeroDivisionError: no reason (ends.py, line {line})\n" in ended.out
    assert {row["defense"]: row["status"] for row in results(out)} == {
        "failing": "failed",
        "killed": "failed",
        "clip": "done",
    }
    told = {record["error"] for record in map(json.loads, (path.read_text() for path in out.glob("runs/*/failure.json")))}
    goes_on = "; --retry-failed resumes from its last checkpoint"
    assert told == {
        "ZeroDivisionError: no reason",
        f"its process was killed by SIGKILL, as Linux does when memory runs out{goes_on}",
    }
    assert "FAILED worker: its process was killed by SIGKILL" in ended.out
    monkeypatch.setenv("HARMLESS", "1")
    assert bench(*arguments, "--jobs", "2", "--retry-failed", "--out", out).code == 0
    assert bench(*arguments, "--out", whole).code == 0
    assert differences(whole, out) == []


def test_where_memory_is_enough_for_one(bench: Bench, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    matrix = (*MATRIX, "--attack", "none", "--seeds", "0,1", "--plugin", trace.with_name("tracing.py"))
    done = bench(*matrix, "--jobs", "2", "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("memory is enough for 1 at a time; the others wait\n") == 1
    assert [word for word, _, _ in lines(trace)] == ["begin", "end", "begin", "end"]
    assert len(_processes(trace)) == 1


def test_bad_input_that_a_worker_meets(bench: Bench, trace: Path, tmp_path: Path) -> None:
    matrix = (*MATRIX, "--attack", "none", "--defense", "picky,clip", "--plugin", trace.with_name("tracing.py"))
    picky = bench(*matrix, "--jobs", "2", "--out", tmp_path / "out")
    assert (picky.code, picky.err) == (2, "bench: defense.picky: nothing pleases it; choose another\n")
    assert not list((tmp_path / "out").glob("runs/*/failure.json"))
    assert not [process for process in _processes(trace) if _lives(process)]


class Command:
    """A matrix of four cells on two workers, started again and again until it is through."""

    def __init__(self, trace: Path, out: Path, *options: str) -> None:
        self._trace = trace
        self._before = _processes(trace)
        arguments = (*FOUR, *LONG, "--plugin", trace.with_name("tracing.py"), "--jobs", "2", "--out", out, *options)
        self.process = started(*arguments, WAIT=0.3)

    @property
    def workers(self) -> list[int]:
        """Those that have begun to train."""
        return sorted(_processes(self._trace) - self._before)

    def works(self, count: int) -> bool:
        return len(self.workers) >= count or self.process.poll() is not None

    def end(self) -> tuple[int, str]:
        """Wait until none of its processes is left; the exit code, and what was said on standard error."""
        _, err = self.process.communicate(timeout=300)
        _wait(lambda: not any(map(_lives, self.workers)), 60)
        return self.process.returncode, err


def _check_whole(bench: Bench, out: Path, whole: Path) -> None:
    assert bench(*FOUR, *LONG, "--retry-failed", "--out", out).code == 0
    assert bench(*FOUR, *LONG, "--out", whole).code == 0
    assert differences(whole, out) == []


def test_stopped_and_killed(bench: Bench, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped = Command(trace, out)
    _wait(lambda: stopped.works(2))
    time.sleep(1)
    for worker in stopped.workers:  # as a batch system does, to every process of a job
        os.kill(worker, signal.SIGTERM)
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.end() == (143, "bench: interrupted; run the same command again to resume\n")
    assert len(list(out.glob("runs/*/checkpoint.pt"))) == 2
    assert not list(out.rglob("*.tmp"))

    orphaned = Command(trace, out)
    _wait(lambda: orphaned.works(2))
    orphaned.process.kill()
    assert orphaned.end()[0] == -signal.SIGKILL

    crippled = Command(trace, out)
    _wait(lambda: crippled.works(1))
    os.kill(crippled.workers[0], signal.SIGKILL)
    assert crippled.end()[0] == 1
    assert [word for word, _, _ in lines(trace)].count("resumed") >= 2
    _check_whole(bench, out, tmp_path / "whole")


@pytest.mark.slow
def test_killed_anywhere(bench: Bench, trace: Path, tmp_path: Path) -> None:
    """The command or one of its workers at random moments."""
    draw, out, kills = random.Random(1), tmp_path / "out", 0
    while kills < 12:
        command = Command(trace, out, "--checkpoint-minutes", "0", "--retry-failed")
        _wait(lambda command=command: command.works(draw.choice((1, 2))))
        time.sleep(draw.uniform(0, 3))
        victim = draw.choice([command.process.pid, *filter(_lives, command.workers)])
        if command.process.poll() is not None:
            break
        os.kill(victim, draw.choice((signal.SIGKILL, signal.SIGINT)) if victim == command.process.pid else signal.SIGKILL)
        assert command.end()[0] in (0, 1, 130, -signal.SIGKILL)
        kills += 1
    assert kills > 3
    _check_whole(bench, out, tmp_path / "whole")
