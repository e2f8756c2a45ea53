import json
import os
import re
from pathlib import Path

import pytest

from bench.evaluators import zero_shot
from bench.matrix import cell
from bench.registry import attacks

from .conftest import SMALL, Bench, results

COLUMNS = (
    "data,model,track,attack,attack_rate,defense,seed,evaluator,task,metric,value,unit,n,ci_low,ci_high,status,reason,run_key"
)


def _files(folder: Path) -> dict[str, int]:
    """Every file outside the report with the time of its last change."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name not in {"report", "locks"})
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def _forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(cell, "Trainer", trainer)


def test_the_default_matrix_then_again_then_a_new_evaluator(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = bench("run", *SMALL, "--out", out)
    assert (first.code, first.err) == (0, "")
    assert "[3/3]" in first.out
    assert "Attack success rate" in first.out
    assert str(out / "report" / "index.html") in first.out
    _check_results(out)
    assert "<table" in (out / "report" / "index.html").read_text()
    assert not [path for path in out.rglob("*") if ".tmp" in path.name or path.name == "checkpoint.pt"]
    before = _files(out)

    _forbid_training(monkeypatch)
    again = bench("run", *SMALL, "--out", out)
    assert (again.code, again.err) == (0, "")
    assert again.out.count("already on record") == 3
    assert _files(out) == before

    plan = bench("run", *SMALL, "--out", out, "--dry-run")
    assert plan.out.count(": on record") == 3
    assert "3 cells, 0 to be trained" in plan.out
    assert _files(out) == before

    monkeypatch.setattr(zero_shot.ZeroShot, "version", "next")
    assert bench("run", *SMALL, "--out", out, "--dry-run").out.count("trained, to be evaluated") == 3
    newer = bench("run", *SMALL, "--out", out)
    assert newer.code == 0
    after = _files(out)
    assert {name: after[name] for name in before} == before
    added = [name for name in after if name not in before]
    assert len([name for name in added if re.search(r"/evals/zero_shot-\w+\.json$", name)]) == 3
    assert len(added) == 3 + 3 + 2  # with their predictions, and the request with its file for --config


def _check_results(out: Path) -> None:
    text = (out / "report" / "results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = results(out)
    assert {row["status"] for row in rows} == {"done", "unsupported"}
    assert {row["attack"] for row in rows} == {"none", "badnet", "tdpa"}
    assert {row["evaluator"] for row in rows} == {"asr", "zero_shot", "linear_probe"}
    for row in rows:
        if row["status"] == "done":
            assert 0 <= float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"]) <= 1
            assert float(row["value"]) * int(row["n"]) == pytest.approx(round(float(row["value"]) * int(row["n"])))
        else:
            assert (row["attack"], row["evaluator"]) == ("none", "asr")
            assert row["reason"]
        record = json.loads((out / "runs" / row["run_key"] / "run.json").read_text())
        assert record["run_key"] == row["run_key"]
        assert record["spec"]["defense"]["name"] == row["defense"]


def test_the_same_numbers_elsewhere(bench: Bench, tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two/deeper"):
        out = tmp_path / name
        assert bench("run", *SMALL, "--attack", "badnet", "--out", out, "--device", ("auto", "cpu")["two" in name]).code == 0
        tables.append((out / "report" / "results.csv").read_bytes())
    assert tables[0] == tables[1]


def test_dry_run_writes_nothing(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_training(monkeypatch)
    monkeypatch.chdir(tmp_path)
    done = bench("run", *SMALL, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("to be trained\n") == 3
    assert "3 cells, 3 to be trained: about" in done.out
    assert bench("run", *SMALL, "--dry-run", "--out", tmp_path / "out").code == 0
    assert os.listdir(tmp_path) == []


def _planned(bench: Bench, *arguments: str) -> list[tuple[str, ...]]:
    done = bench("run", *SMALL, "--dry-run", "--evaluator", "zero_shot", *arguments)
    assert (done.code, done.err) == (0, "")
    lines = [line.partition("  ")[2].rpartition(": ")[0] for line in done.out.splitlines() if " · " in line]
    return [tuple(line.split(" · ")) for line in lines]


def test_lists_and_repeats(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = [("clip", name, "scenes", f"seed {seed}") for seed in (0, 2) for name in ("badnet", "tdpa")]
    assert _planned(bench, "--attack", "badnet,tdpa", "--seeds", "0,2") == wanted
    assert _planned(bench, "--attack", "badnet", "--attack", "tdpa", "--seeds", "0", "--seeds", "2") == wanted
    assert _planned(bench, "--attack", " badnet, tdpa,badnet,", "--seeds", "0,2,0,00") == wanted
    assert _planned(bench, "--attack", "none") == [("clip", "no attack", "scenes", "seed 0")]
    assert [row[1] for row in _planned(bench, "--attack", "none,badnet")] == ["no attack", "badnet"]
    every = {row[1] for row in _planned(bench, "--attack", "all")}
    assert every - {"no attack"} == set(attacks.names())
    assert {row[1] for row in _planned(bench, "--attack", "all,none")} == {*every, "no attack"}
    assert len(_planned(bench, "--attack", "badnet,tdpa", "--defense", "all")) >= 2


def test_a_large_seed(bench: Bench, tmp_path: Path) -> None:
    done = bench("run", *SMALL, "--attack", "badnet", "--seeds", 2**40, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert {row["seed"] for row in results(tmp_path / "out")} == {str(2**40)}


def test_report_needs_the_records_alone(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bench("run", *SMALL, "--attack", "none", "--evaluator", "zero_shot", "--out", out).code == 0
    written = (out / "report" / "results.csv").read_bytes()
    for path in (out / "report").iterdir():
        path.unlink()
    done = bench("report", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert (out / "report" / "results.csv").read_bytes() == written


def test_controls_are_planned_when_asked_for(bench: Bench, tmp_path: Path) -> None:
    asked = ("run", *SMALL, "--defense", "clip,safeclip", "--attack", "badnet", "--dry-run", "--out", tmp_path / "out")
    assert " beside " not in bench(*asked).out
    lines = [line for line in bench(*asked, "--controls").out.splitlines() if " for safeclip · badnet" in line]
    assert sorted(line.split()[1] for line in lines) == ["control_size", "control_steps"]
