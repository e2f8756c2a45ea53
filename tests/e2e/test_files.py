import csv
from pathlib import Path

import pytest
from PIL import Image

from bench.api import Vocabulary
from bench.data import classes, files
from bench.matrix.progress import MatrixProgress
from tests.data.coco_maker import make_coco

from .conftest import Bench, results

SMALL_64 = (
    "--model", "small-64", "--set", "train.epochs=1", "--set", "train.batch_size=8", "--set", "train.precision=fp32",
    "--set", "attack.rate=0.1", "--set", "attack.min_captions=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _few_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's thousand classes, of which these files need three, take a minute a model."""
    few = Vocabulary(("tench", "goldfish", "banana", "lemon", "tank"), ("a photo of a {}.", "{}"))
    monkeypatch.setattr(classes, "imagenet", lambda: few)


def test_mscoco(bench: Bench, tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "coco"), tmp_path / "out"
    arguments = ("run", "--data", "mscoco", "--data-root", root, *SMALL_64, "--out", out)
    done = bench(*arguments)
    assert (done.code, done.err) == (0, "")
    rows = results(out)
    assert {row["status"] for row in rows} == {"done", "unsupported"}
    assert {row["task"] for row in rows if row["evaluator"] == "zero_shot"} == {"objects"}
    assert {row["attack"] for row in rows if row["evaluator"] == "asr" and row["status"] == "done"} == {"badnet", "tdpa"}
    assert {row["model"] for row in rows} == {"small-64"}
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    root.rename(moved)
    again = bench("run", "--data", "mscoco", "--data-root", moved, *SMALL_64, "--out", out)
    assert again.out.count("already on record") == 3


@pytest.fixture
def table(tmp_path: Path) -> Path:
    names = ("goldfish", "banana", "lemon")
    (tmp_path / "pairs" / "images").mkdir(parents=True)
    rows = [["filepath", "title"]]
    for row in range(60):
        Image.new("RGB", (70, 64), (4 * row, 5, 200)).save(tmp_path / "pairs" / "images" / f"{row}.png")
        rows.append([f"images/{row}.png", f"a {names[row % 3]}, number {row}"])
    with (tmp_path / "pairs" / "train.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path / "pairs"


def test_csv(bench: Bench, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--set", "data.holdout_share=0.4")
    done = bench("run", "--data", "csv", "--data-root", table, *SMALL_64, *options, "--out", out)
    assert (done.code, done.err) == (0, "")
    rows = results(out)
    assert {row["reason"] for row in rows if row["evaluator"] == "zero_shot"} == {"a list without labels"}
    measured = [row for row in rows if row["status"] == "done"]
    assert {row["metric"] for row in measured} == {"asr", "asr_floor", "triggered_top1"}


def test_a_damaged_image_is_found_before_anything_is_trained(bench: Bench, tmp_path: Path) -> None:
    root, out = make_coco(tmp_path / "coco"), tmp_path / "out"
    image = root / "val2017" / "000000000030.jpg"
    image.write_bytes(image.read_bytes()[:300])
    arguments = ("run", "--data", "mscoco", "--data-root", root, *SMALL_64, "--out", out)
    done = bench(*arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert str(image) in done.err
    assert "--set data.on_error=skip" in done.err
    assert not list(out.glob("runs/*/*"))
    skipping = bench(*arguments, "--set", "data.on_error=skip", "--attack", "badnet", "--evaluator", "asr")
    assert (skipping.code, skipping.err) == (0, "")
    assert {row["status"] for row in results(out) if row["attack"] == "badnet"} >= {"done"}
    facts = [path.read_text() for path in out.glob("runs/*/run.json")]
    assert all('"skipped_unreadable": 1' in text for text in facts)
    assert facts


def test_data_that_goes_away_between_two_cells(
    bench: Bench, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images that are too many to be kept in memory."""
    monkeypatch.setattr(files.ImageFiles.__init__, "__defaults__", (0, "restore it"))
    out, away = tmp_path / "out", tmp_path / "away"
    common = ("--set", "data.holdout_share=0.4", "--attack", "none,badnet", "--evaluator", "asr")
    arguments = ("run", "--data", "csv", "--data-root", table, *SMALL_64, *common, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(MatrixProgress, "cell_done", lambda progress, title: table.rename(away))
        done = bench(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert str(table / "images") in done.err
    assert "is missing: restore it" in done.err
    assert len(list(out.glob("runs/*/run.json"))) == 1
    away.rename(table)
    again = bench(*arguments)
    assert (again.code, again.out.count("already on record")) == (0, 1)
