import os
import re
import signal
import time
from pathlib import Path

import pytest

from .conftest import SMALL, Bench, started

COMMON = ("run", *SMALL, "--set", "train.epochs=3", "--attack", "badnet", "--evaluator", "zero_shot", "--defense", "traced")


def _until(trace: Path, line: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not (trace.exists() and line in trace.read_text().splitlines()):
        assert time.monotonic() < deadline, f"no '{line}'"
        time.sleep(0.02)


def _weights(out: Path) -> bytes:
    (path,) = out.glob("runs/*/model.safetensors")
    return path.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_then_finished(bench: Bench, plugin: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace"
    arguments = (*COMMON, "--plugin", plugin, "--out", out)
    process = started(*arguments, TRACE=trace, WAIT=0.2)
    _until(trace, "step 6")
    assert "1 running" in bench("status", "--out", out).out
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    killed = number == signal.SIGKILL
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[number]
    assert killed or err.strip().splitlines() == ["bench: interrupted; run the same command again to resume"]
    assert not list(out.rglob("*.tmp"))
    assert not list(out.glob("runs/*/run.json"))
    assert re.search(r"1 waiting\nwaiting .*will resume from its checkpoint\n$", bench("status", "--out", out).out)
    assert bench("report", "--out", out).code == 0
    done = trace.read_text().count("step")

    os.environ["TRACE"] = str(trace)
    try:
        assert bench(*arguments).code == 0
    finally:
        del os.environ["TRACE"]
    assert trace.read_text().count("step") - done == (8 if killed else 12 - done)
    whole = tmp_path / "whole"
    assert bench(*COMMON, "--plugin", plugin, "--out", whole).code == 0
    assert _weights(whole) == _weights(out)
