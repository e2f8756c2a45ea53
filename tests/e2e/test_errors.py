import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.coco_maker import edit, make_coco

from .conftest import SMALL, Bench

COCO = ("--data", "mscoco", "--model", "small-64", "--set", "attack.rate=0.1", "--set", "attack.min_captions=1")


def _refused(bench: Bench, out: Path, *arguments: object) -> str:
    """The one line with which a command is refused; nothing may be left of it."""
    done = bench("run", "--out", out, *arguments)
    assert done.code == 2, done
    assert done.err.count("\n") == 1
    assert done.err.startswith("bench: ")
    assert "Traceback" not in done.err + done.out
    if out.is_dir():
        assert not list(out.glob("runs/*"))
        assert not [path for path in out.rglob("*") if ".tmp" in path.name]
    return done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--defense", "clipp"], "unknown defense 'clipp'; did you mean 'clip'?"),
        (["--attack", "badnets"], "unknown attack 'badnets'; did you mean 'badnet'?"),
        (["--attack", "all,badnets"], "unknown attack 'badnets'; did you mean 'badnet'?"),
        (["--evaluator", "zeroshot"], "unknown evaluator 'zeroshot'; did you mean 'zero_shot'?"),
        (["--data", "mcoco"], "unknown data set 'mcoco'; did you mean 'mscoco'?"),
        (["--recipe", "smal"], "--recipe smal: no such recipe; did you mean 'small'?"),
        (["--jobs", "two"], "--jobs two: expected a positive integer or auto"),
        (["--model", "RN55"], "unknown model; did you mean 'RN50'?"),
        (["--set", "train.epoch=2"], "train.epoch: unknown option 'epoch'; did you mean 'epochs'?"),
        (["--set", "attack.rat=0.1"], "attack.rat: unknown option 'rat'; did you mean 'rate'?"),
        (["--set", "train.epochs=two"], "train.epochs: "),
        (["--set", "train.lr=inf"], "train.lr: "),
        (["--set", "attack.rate=1e-5"], "attack.rate=1e-05 poisons none of the 256 training pairs"),
        (["--set", "attack.target=unicorn"], "attack.target=unicorn: no such class"),
        (["--attack", "badnet", "--set", "attack.rate=0.9"], "lower the rate"),
        (
            [
                "--attack",
                "toxic_text_word",
                "--set",
                "attack.rate=0.05",
                "--set",
                f"attack.toxic_text_word.trigger={'zx ' * 14}",
            ],
            "the model's context has no room for it",
        ),
        (["--seeds", "a"], "--seeds a: expected integers"),
        (["--seeds", "1.5"], "--seeds 1.5: expected integers"),
        (["--seeds", "0..3"], "--seeds 0..3: expected integers"),
        (["--seeds", "-1"], "--seeds -1: seeds must not be negative"),
        (["--seeds", ""], "--seeds"),
        (["--defense", ","], "--defense"),
        (["--attack", ""], "--attack"),
        (["--plugin", "no/such/file.py"], "--plugin no/such/file.py: no such file"),
        (["--data", "mscoco"], "--data-root"),
        (["--data", "csv"], "--data-root"),
        (["--data", "mscoco", "--data-root", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_bad_options(bench: Bench, tmp_path: Path, arguments: list[str], words: str) -> None:
    options = SMALL if "--data" not in arguments else ()
    assert words in _refused(bench, tmp_path / "out", *options, *arguments)
    assert not (tmp_path / "out").exists()


def test_no_gpu(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: PyTorch finds no usable GPU" in _refused(bench, tmp_path / "out", *SMALL, "--device", "cuda")
    assert not (tmp_path / "out").exists()


def test_no_memory_to_open_the_data(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data.scenes.dataset.draw", lambda *arguments: np.empty(2**50))
    assert "out of memory" in _refused(bench, tmp_path / "out", *SMALL)


def test_unwritable_places(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for out in (file, file / "out", Path("/proc/out"), Path(os.devnull)):
        assert f"--out {out}: not writable" in _refused(bench, out, *SMALL)
        assert bench("report", "--out", out).code == 2
    assert file.read_text() == "precious"


def test_a_folder_of_an_unknown_schema_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"schema": 99}))
    assert "store.json: schema 99 is not known" in _refused(bench, tmp_path, *SMALL)
    assert "schema 99" in bench("report", "--out", tmp_path).err
    assert "schema 99" in bench("run", *SMALL, "--dry-run", "--out", tmp_path).err
    assert os.listdir(tmp_path) == ["store.json"]


def test_a_folder_of_an_older_schema_is_read_and_not_added_to(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"schema": 1}))
    assert "schema 1, made by an earlier version of bench" in _refused(bench, tmp_path, *SMALL)
    assert "schema 1, made by an earlier version of bench" in bench("run", *SMALL, "--dry-run", "--out", tmp_path).err
    assert bench("status", "--out", tmp_path).code == bench("report", "--out", tmp_path).code == 0


def test_a_record_of_an_unknown_schema_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    arguments = ("run", *SMALL, "--attack", "none", "--evaluator", "zero_shot", "--out", tmp_path)
    assert bench(*arguments).code == 0
    (record,) = tmp_path.glob("runs/*/run.json")
    written = json.dumps({"schema": 99, "id": record.parent.name})
    record.write_text(written)
    done = bench(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "run.json: schema 99 is not known" in done.err
    assert record.read_text() == written


def _break(root: Path, how: str) -> str:
    """Damages a data set; returns what the error has to name."""
    captions = root / "annotations" / "captions_train2017.json"
    image = root / "train2017" / "000000000003.jpg"
    if how == "root is a file":
        shutil.rmtree(root)
        root.write_text("")
        return str(root)
    if how == "no annotations":
        captions.unlink()
        return "captions_train20"
    if how == "annotations cut in half":
        captions.write_bytes(captions.read_bytes()[: captions.stat().st_size // 2])
        return str(captions)
    if how == "image missing":
        image.unlink()
        return image.name
    if how == "image cut in half":
        image.write_bytes(image.read_bytes()[:300])
        return str(image)
    assert how == "empty caption"
    for number in range(3):
        edit(root, captions.name, lambda table, number=number: table["annotations"][6 + number].update(caption=" "))
    return "image 3 has no caption"


@pytest.mark.parametrize(
    "how",
    ["root is a file", "no annotations", "annotations cut in half", "image missing", "image cut in half", "empty caption"],
)
def test_damaged_data(bench: Bench, tmp_path: Path, how: str) -> None:
    root = make_coco(tmp_path / "coco")
    named = _break(root, how)
    assert named in _refused(bench, tmp_path / "out", *COCO, "--data-root", root)


def test_a_class_that_nobody_mentions(bench: Bench, tmp_path: Path) -> None:
    root = make_coco(tmp_path / "coco")
    said = _refused(bench, tmp_path / "out", *COCO, "--data-root", root, "--set", "attack.badnet.target=tench")
    assert "no training caption mentions 'tench'" in said
    drawn = (*COCO[:-2], "--data-root", root, "--set", "attack.min_captions=1000")
    assert "mentioned by 1000 training captions" in _refused(bench, tmp_path / "out", *drawn)


def test_jobs_and_a_cluster_exclude_each_other(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cluster.options.find_spec", lambda name: name)
    said = _refused(bench, tmp_path / "out", "--executor", "ray", "--jobs", 2)
    assert "--jobs 2: with --executor ray, --cpus-per-cell and --gpus-per-cell determine the number of cells" in said
    said = _refused(bench, tmp_path / "out", "--executor", "submitit", "--jobs", 2)
    assert "--jobs 2: with --executor submitit, --slurm array_parallelism=N determines the number of cells" in said
