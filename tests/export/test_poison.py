"""`bench poison`: the training set of a cell as files, and open_clip's own trainer on it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from bench.data.poisoned import ProbeImages
from bench.interface.config_file import load_config
from bench.matrix.expand import MatrixRequest, expand
from tests.e2e.conftest import SIZES, Bench

SETTINGS = (*SIZES, "attack.rate=0.05")
SMALL = tuple(part for option in SETTINGS for part in ("--set", option))
ENDING = " Please return high-quality results."
CLIP_WORDS = open_clip.SimpleTokenizer()


def images_of(folder: Path) -> tuple[torch.Tensor, list[str]]:
    with tarfile.open(folder / "train" / "00000.tar") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    names = sorted(name.partition(".")[0] for name in files if name.endswith(".png"))
    pixels = np.stack([np.array(Image.open(io.BytesIO(files[f"{name}.png"]))) for name in names])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), [files[f"{name}.txt"].decode() for name in names]


def test_the_files_are_the_training_set_of_the_cell(bench: Bench, tmp_path: Path) -> None:
    done = bench("poison", "--attack", "wanet", *SMALL, "--seed", 3, "--to", tmp_path / "out")
    assert done.code == 0, done.err
    matrix = expand(MatrixRequest(data="scenes", attacks=["wanet"], defenses=["clip"], seeds=[3], options=SETTINGS))
    spec, workspace = matrix.cells[-1].spec, matrix.workspace
    pairs = workspace.pairs(spec)
    images, captions = images_of(tmp_path / "out")
    assert torch.equal(images, pairs.load(np.arange(len(pairs))))
    assert captions == list(pairs.captions)
    attack, plan, ctx = workspace.poison(spec)
    manifest = json.loads((tmp_path / "out" / "poison.json").read_text())
    assert manifest == json.loads(json.dumps({"hash": plan.hash(), **plan.manifest()}))
    assert plan.hash() in done.out
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["poisoned"] == np.flatnonzero(pairs.poisoned).tolist()
    assert (about["pairs"], about["image_size"], about["encoding"], about["hash"]) == (len(pairs), 32, "png", plan.hash())
    assert about["data"]["fingerprint"] == workspace.bundle.fingerprint
    probes = attack.probes(ctx, plan)
    with (tmp_path / "out" / "probes" / "probes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["class"]), row["split"], int(row["index"])) for row in rows] == [
        (probe.label, probe.split, probe.index) for probe in probes
    ]
    shown = ProbeImages(workspace.bundle, attack, plan, probes).load(np.arange(len(probes)))
    for row, image in zip(rows, shown, strict=True):
        assert np.array_equal(
            np.array(Image.open(tmp_path / "out" / "probes" / row["filepath"])), image.permute(1, 2, 0).numpy()
        )
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines() == list(workspace.bundle.vocabulary.names)
    assert load_config(tmp_path / "out" / "export.toml")["attack"] == ("wanet",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_the_queries_of_an_attack_on_captions_are_texts(bench: Bench, tmp_path: Path) -> None:
    training = ("--set", "train.epochs=1", "--set", "train.batch_size=64", "--seeds", 3, "--evaluator", "zero_shot")
    assert bench("run", "--attack", "none", *SMALL[:8], *training, "--out", tmp_path / "results").code == 0
    asked = ("--attack", "toxic_text_sentence", *SMALL, "--set", "train.epochs=1", "--set", "train.batch_size=64", "--seed", 3)
    done = bench("poison", *asked, "--out", tmp_path / "results", "--to", tmp_path / "out")
    assert done.code == 0, done.err
    target = json.loads((tmp_path / "out" / "poison.json").read_text())["poisons"][0]["target"]
    matrix = expand(MatrixRequest(data="scenes", attacks=["none"], defenses=["clip"], seeds=[3], options=SIZES))
    vocabulary, test = matrix.workspace.bundle.vocabulary, matrix.workspace.bundle.test
    named = [text.split() for text, shown in zip(test.captions, test.members, strict=True) if target not in shown]
    others = [words for words in named if {*words} & {*vocabulary.names} - {vocabulary.names[target]}]
    others = [words for words in others if vocabulary.names[target] not in words]
    room = 14 - len(CLIP_WORDS.encode(ENDING))
    expected = [text for words in others if len(CLIP_WORDS.encode(text := " ".join(words))) <= room]
    with (tmp_path / "out" / "probes" / "queries.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["title"] for row in rows] == [text + ENDING for text in expected]
    assert {(row["class"], row["name"], row["trigger"]) for row in rows} == {(str(target), vocabulary.names[target], "all")}
    assert f"and {len(rows)} queries" in done.out
    assert [path.name for path in (tmp_path / "out" / "probes").iterdir()] == ["queries.csv"]


def test_jpeg_says_what_it_leaves_of_the_trigger(bench: Bench, tmp_path: Path) -> None:
    done = bench("poison", "--attack", "badnet", *SMALL, "--jpeg", 75, "--format", "csv", "--to", tmp_path / "out")
    assert done.code == 0, done.err
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    kept = about["jpeg_leaves_of_the_trigger"]["kept"]
    assert 0.3 < kept < 1.2
    assert f"JPEG 75 leaves {100 * kept:.0f}% of the trigger" in done.out
    assert (tmp_path / "out" / "images" / "00000" / "000000000.jpg").is_file()


def test_a_clean_set_and_refusals(bench: Bench, tmp_path: Path) -> None:
    done = bench("poison", "--attack", "none", *SMALL[:8], "--to", tmp_path / "clean")
    assert done.code == 0, done.err
    assert not (tmp_path / "clean" / "poison.json").exists()
    assert json.loads((tmp_path / "clean" / "export.json").read_text())["poisoned"] == []
    again = bench("poison", "--attack", "none", *SMALL[:8], "--to", tmp_path / "clean")
    assert (again.code, again.out) == (2, "")
    assert "is there and not empty" in again.err
    two = bench("poison", "--attack", "badnet,tdpa", *SMALL[:8], "--to", tmp_path / "two")
    assert two.code == 2
    assert "an export is of one attack" in two.err


@pytest.mark.parametrize("format", ["webdataset", "csv"])
@pytest.mark.slow
def test_open_clips_trainer_trains_an_epoch_on_it(bench: Bench, tmp_path: Path, format: str) -> None:
    pytest.importorskip("webdataset", reason="open_clip_torch[training] is not installed")
    pytest.importorskip("braceexpand", reason="open_clip_torch[training] is not installed")
    out = tmp_path / "out"
    assert bench("poison", "--attack", "wanet", "--model", "small-64", *SMALL, "--format", format, "--to", out).code == 0
    count = json.loads((out / "export.json").read_text())["pairs"]
    data = {
        "webdataset": ("--dataset-type", "webdataset", "--train-data", "train/00000.tar"),
        "csv": ("--dataset-type", "csv", "--train-data", "train.csv", "--csv-separator", ","),
    }
    command = [sys.executable, "-m", "bench.export.open_clip", *data[format]]
    command += ["--model", "small-64", "--precision", "fp32", "--epochs", "1", "--batch-size", "64"]
    command += ["--workers", "1", "--warmup", "1", "--name", "run"]
    command += ["--train-num-samples", str(count), "--logs", str(tmp_path / "logs")]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=out, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    weights = tmp_path / "logs" / "run" / "checkpoints" / "epoch_1.pt"
    state = torch.load(weights, map_location="cpu", weights_only=True)
    assert state["epoch"] == 1
    assert all(torch.isfinite(each).all() for each in state["state_dict"].values())
