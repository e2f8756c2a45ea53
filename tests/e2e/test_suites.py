"""`bench run --suite` and `bench report --suite`, from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from .conftest import SIZES, SMALL, Bench

SUITE = ("--suite", "table14,figure1,figure3", "--data", "scenes")


def test_a_suite_then_its_report(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned = bench("run", *SUITE, *SMALL, "--dry-run", "--out", out)
    assert (planned.code, planned.err) == (0, "")
    assert "3 cells, 3 to be trained: about" in planned.out
    assert "MB of disk" in planned.out
    assert "figure3: Triggers of backdoor attacks: nothing to run" in planned.out
    assert not out.exists()

    plain = bench("run", *SMALL, "--attack", "tdpa", "--out", out)
    assert plain.code == 0
    assert not (out / "report" / "table14.csv").exists()

    done = bench("run", *SUITE, *SMALL, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("already on record") == 2  # the undefended cell and its floor
    lines = list(csv.DictReader((out / "report" / "table14.csv").open()))
    sizes = [line for line in lines if line["column"] == "batch size"]
    assert [float(line["published"]) for line in sizes] == [512, 512, 256, 256]
    assert {float(line["measured"]) for line in sizes} == {64}
    record = next(json.loads(path.read_text()) for path in out.glob("runs/*/run.json"))
    assert record["spec"]["train"]["batch_size"] == 64

    latex = bench("report", "--out", out, "--suite", "table2", "--format", "latex")
    assert (latex.code, latex.err) == (0, "")
    assert "Downstream accuracy" in (out / "report" / "table2.tex").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "table16", "--data", "scenes"], "--suite table16: unknown suite; did you mean"),
        (["--suite", "table1", "--data", "scene"], "--data scene: unknown data set; did you mean 'scenes'?"),
        (["--suite", "table1", "--attack", "tdpa"], "--attack and --suite exclude each other"),
        (["--suite", "table1", "--defense", "all"], "--defense and --suite exclude each other"),
        (["--suite", "table10"], "--data mscoco: give its folder with --data-root DIR"),
        (["--suite", "table1", "--data", "scenes", *("--set", SIZES[0]), "--set", "train.epoch=2"], "did you mean 'epochs'?"),
    ],
)
def test_refused(bench: Bench, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = bench("run", "--out", tmp_path / "out", *arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unknown_formats_and_suites_of_a_report(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "unknown format" in bench("report", "--out", tmp_path / "out", "--format", "latx").err
    assert "unknown suite" in bench("report", "--out", tmp_path / "out", "--suite", "tabel1").err


MINE = """
title = "Accuracy"
headers = ["method"]
base = { data = "cc3m", metric = "zero_shot" }
columns = [ { label = "CA" } ]
paper = { authors = "Doe et al.", year = 2025 }
rows = [ { label = ["CLIP"], published = [17.2] }, { label = ["New"], defense = "new", published = [16] } ]
unsupported = { defenses = ["new"] }
"""


def test_a_suite_of_a_file_is_asked_for_run_and_reported_as_a_named_one(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MINE)
    asked = ("run", "--suite", "mine.toml", "--data", "scenes", *SMALL, "--evaluator", "zero_shot", "--out", "out")
    planned = bench(*asked, "--dry-run")
    assert (planned.code, planned.err) == (0, "")
    assert "mine: Accuracy: 1 cells" in planned.out
    assert "1 without runs: no plugin named new" in planned.out
    assert not Path("out").exists()

    done = bench(*asked)
    assert (done.code, done.err) == (0, "")
    assert "1 cells: 1 done" in bench("status", "--out", "out").out
    assert "1 cells, 0 to be trained" in bench(*asked, "--dry-run").out

    Path("mine.toml").unlink()
    Path("out").rename("elsewhere")
    reported = bench("report", "--out", "elsewhere")
    assert (reported.code, reported.err) == (0, "")
    clip, new = csv.DictReader(Path("elsewhere/report/mine.csv").read_text().splitlines())
    assert (clip["published"], clip["status"], new["published"], new["status"]) == ("0.172", "done", "0.16", "unsupported")
    assert clip["measured"]
    assert "Tables of Doe et al. 2025" in Path("elsewhere/report/index.html").read_text(encoding="utf-8")
    assert "New" in bench("report", "--out", "elsewhere", "--suite", "mine").out
    for command in ("run", "report"):
        gone = bench(command, "--suite", "mine.toml", "--out", "elsewhere")
        assert (gone.code, gone.err.count("\n")) == (2, 1)
        assert "--suite mine.toml: no such file" in gone.err
