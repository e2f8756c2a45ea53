import csv
import json
from pathlib import Path

import pytest

from tests.data.downstream_maker import make

from .conftest import SMALL, Bench


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "report" / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_sets_that_are_there_are_measured_and_the_others_accounted_for(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = make(tmp_path / "sets", ["dtd", "oxford_iiit_pet"], monkeypatch), tmp_path / "out"
    command = ("run", *SMALL, "--attack", "none", "--evaluator", "zero_shot,linear_probe", "--out", out)
    plain = bench(*command)
    assert (plain.code, "downstream" in plain.out) == (0, False)
    before = {path: path.read_bytes() for path in out.glob("runs/*/**/*.json")}
    assert not any("downstream" in json.loads(text) for text in before.values())

    done = bench(*command, "--downstream-root", root)
    assert done.code == 0
    assert "downstream: dtd, oxford_iiit_pet" in done.out
    assert {path: path.read_bytes() for path in before} == before
    new = [json.loads(path.read_text()) for path in out.glob("runs/*/evals/*.json") if path not in before]
    assert sorted(record["evaluator"]["name"] for record in new) == ["linear_probe", "zero_shot"]
    for record in new:
        assert set(record["downstream"]["sets"]) == {"dtd", "oxford_iiit_pet"}
        assert len(record["downstream"]["skipped"]) == 8
        assert str(tmp_path) not in json.dumps(record)

    times = [json.loads(path.read_text())["finished"] for path in out.glob("runs/*/evals/*.json")]
    assert len(set(times)) == 4, "the report takes the newest, and a second is long"
    rows = _rows(out)
    measured = {(row["evaluator"], row["metric"]) for row in rows if row["task"] == "oxford_iiit_pet"}
    assert measured == {(name, metric) for name in ("zero_shot", "linear_probe") for metric in ("top1", "mean_per_class")}
    assert {row["metric"] for row in rows if row["task"] == "dtd"} == {"top1"}
    assert all("full set" in row["reason"] for row in rows if row["task"] == "dtd")
    skipped = {row["task"]: row["reason"] for row in rows if row["status"] == "skipped"}
    assert len(skipped) == 8
    assert all("--downstream-root" in reason for reason in skipped.values())
    page = (out / "report" / "index.html").read_text()
    for text in (page, done.out.replace("\n", " ")):
        assert "imagenet" in text
        assert "no folder of this name" in text
    assert "--downstream-root DIR" in page
    assert bench(*command, "--downstream-root", root).out.count("already on record") == 1


def test_a_downstream_root_that_is_none(bench: Bench, tmp_path: Path) -> None:
    done = bench("run", *SMALL, "--downstream-root", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.code == 2
    assert "--downstream-root" in done.err
    assert "nowhere is not a folder" in done.err
    assert not (tmp_path / "out").exists()
