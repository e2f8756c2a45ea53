from pathlib import Path

import pytest

from .conftest import SMALL, Bench, results

COMMON = ("run", *SMALL, "--attack", "none", "--evaluator", "zero_shot", "--defense", "clip,traced")


def _statuses(out: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in results(out):
        found.setdefault(row["defense"], set()).add(row["status"])
    return found


def test_a_failed_cell(bench: Bench, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace"
    arguments = (*COMMON, "--plugin", plugin, "--out", out)
    monkeypatch.setenv("TRACE", str(trace))
    monkeypatch.setenv("DOOM", "1")
    done = bench(*arguments)
    assert done.code == 1
    assert "FAILED train: TrainingDiverged" in done.out
    assert "1 cell failed" in done.out
    assert _statuses(out) == {"clip": {"done"}, "traced": {"failed"}}
    (failure,) = out.glob("runs/*/failure.json")
    assert "Traceback" in failure.read_text()
    reasons = {row["reason"] for row in results(out) if row["status"] == "failed"}
    assert len(reasons) == 1
    assert "TrainingDiverged: the loss became nan" in reasons.pop()
    assert "TrainingDiverged" in (out / "report" / "index.html").read_text()

    made = trace.read_text().count("made")
    again = bench(*arguments)
    assert again.code == 1
    assert "--retry-failed tries again" in again.out
    assert trace.read_text().count("made") == made
    assert "--retry-failed tries again" in bench(*arguments, "--dry-run").out

    assert bench(*arguments, "--retry-failed").code == 1
    assert trace.read_text().count("made") == made + 1
    monkeypatch.delenv("DOOM")
    assert bench(*arguments).code == 1
    retried = bench(*arguments, "--retry-failed")
    assert (retried.code, retried.err) == (0, "")
    assert _statuses(out) == {"clip": {"done"}, "traced": {"done"}}
    assert not list(out.glob("runs/*/failure.json"))
