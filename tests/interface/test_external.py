"""`bench evaluate`: a checkpoint from elsewhere has the numbers of the cell that its weights are of, in the same tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import bench
from bench.matrix.store import Store
from bench.reports.command import command_of
from bench.reports.records import Run, load_runs
from bench.reports.sections import sections_of
from bench.reports.tables import asr_table
from tests.e2e.conftest import SMALL, Bench
from tests.e2e.conftest import bench as command_line  # noqa: F401  a fixture
from tests.engine.test_pretrained import Bomb

SET = SMALL[1::2]
ASKED: dict[str, Any] = {"attack": "badnet", "evaluator": "asr,zero_shot", "set": SET, "quiet": True}
MEASURED = ["evaluator", "task", "metric", "value", "n", "ci_low", "ci_high"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with plain CLIP, poisoned and not."""
    folder = tmp_path_factory.mktemp("whole")
    assert bench.run(out=folder, **ASKED).outcomes == {"done": 2}
    return folder


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def _runs(out: Path) -> dict[str, Run]:
    """Those trained here by attack, and the model from elsewhere that was measured on the attack's probes."""
    runs = load_runs(Store.open(out))
    return {"external" if run.external else run.attack: run for run in runs if not (run.external and run.attack == "none")}


def _checkpoint(out: Path, attack: str, to: Path) -> Path:
    """The model of a cell as CleanCLIP's code writes one that several GPUs trained."""
    state = load_file(out / "runs" / _runs(out)[attack].key / "model.safetensors")
    torch.save({"epoch": 3, "name": "x", "state_dict": {f"module.{key}": value for key, value in state.items()}}, to)
    return to


def _rows(out: Path, defense: str) -> pd.DataFrame:
    frame = bench.load_results(out)
    return frame[(frame.attack == "badnet") & (frame.defense == defense)][MEASURED].reset_index(drop=True)


def _predictions(out: Path, defense: str) -> pd.DataFrame:
    frame = bench.load_predictions(out)
    mine = frame[(frame.attack == "badnet") & (frame.defense == defense)]
    return mine.drop(columns=["defense", "run_key"]).reset_index(drop=True)


def test_the_numbers_are_those_of_the_cell_whose_weights_it_has(out: Path, tmp_path: Path) -> None:
    file = _checkpoint(out, "badnet", tmp_path / "theirs.pt")
    found = bench.evaluate_checkpoint(file, out=out, **ASKED)
    pd.testing.assert_frame_equal(_rows(out, "external"), _rows(out, "clip"))
    own, theirs = _predictions(out, "clip"), _predictions(out, "external")
    assert len(own) > 4 * 64, "the probes of the attack beside four tasks"
    pd.testing.assert_frame_equal(theirs, own)
    run = _runs(out)["external"]
    assert found.runs == (run.key,)
    assert run.record
    told = run.record.provenance
    assert (told.trained, told.file, len(told.sha256)) == ("elsewhere", "theirs.pt", 64)
    (section,) = sections_of(load_runs(Store.open(out)))
    table = asr_table(section)
    assert table
    assert [row.defense for row in table.rows] == ["clip", "external"]
    assert [note.where for note in table.notes if "trained elsewhere" in note.reason] == [["external × badnet 1%"]]
    assert command_of(run)[0] == "bench evaluate"
    assert "--weights theirs.pt" in command_of(run)
    before = (out / "runs" / run.key / "run.json").read_bytes()
    assert bench.evaluate_checkpoint(file, out=out, **ASKED).runs == (run.key,)
    assert (out / "runs" / run.key / "run.json").read_bytes() == before


def test_two_checkpoints_are_two_rows(out: Path, tmp_path: Path) -> None:
    for attack, name in (("badnet", "first"), ("none", "second")):
        file = _checkpoint(out, attack, tmp_path / f"{name}.pt")
        bench.evaluate_checkpoint(file, name=name, out=out, **ASKED)
    (section,) = sections_of(load_runs(Store.open(out)))
    assert len(section.defenses) == 3
    assert ["checkpoint=first" in label for label in section.defenses] == [False, True, False]


def test_the_floor_may_be_a_checkpoint_too(out: Path, tmp_path: Path) -> None:
    theirs, clean = (_checkpoint(out, attack, tmp_path / f"{attack}.pt") for attack in ("badnet", "none"))
    bench.evaluate_checkpoint(theirs, clean=clean, out=tmp_path / "new", **ASKED)
    pd.testing.assert_frame_equal(_rows(tmp_path / "new", "external"), _rows(out, "clip"))


def test_without_a_clean_model_it_is_said_what_to_do(out: Path, tmp_path: Path) -> None:
    file = _checkpoint(out, "badnet", tmp_path / "theirs.pt")
    with pytest.raises(bench.UserError, match=r"asr needs a model trained without poison, .*, run `bench run --attack none"):
        bench.evaluate_checkpoint(file, out=tmp_path / "new", **ASKED)
    assert not list((tmp_path / "new").glob("runs/*"))


@pytest.mark.parametrize("option", ["weights", "clean"])
def test_a_pickle_that_calls_a_function_is_refused(option: str, out: Path, tmp_path: Path) -> None:
    good = _checkpoint(out, "badnet", tmp_path / "good.pt")
    bad = tmp_path / "bad.pt"
    torch.save({"state_dict": Bomb(tmp_path / "ran")}, bad)
    weights, clean = (bad, None) if option == "weights" else (good, bad)
    with pytest.raises(bench.UserError, match=r"bad\.pt: contains pickled code"):
        bench.evaluate_checkpoint(weights, clean=clean, out=out, **ASKED)
    assert not (tmp_path / "ran").exists()
    assert "external" not in _runs(out)


@pytest.fixture
def exported(command_line: Bench, tmp_path: Path) -> Path:  # noqa: F811
    """What `bench poison` writes of the poison of the poisoned cell."""
    folder = tmp_path / "export"
    assert command_line("poison", "--attack", "badnet", "--format", "csv", "--to", folder, *SMALL).code == 0
    return folder


def test_an_exported_set_says_what_to_measure_on(exported: Path, out: Path, tmp_path: Path) -> None:
    file = _checkpoint(out, "badnet", tmp_path / "theirs.pt")
    bench.evaluate_checkpoint(file, poison=exported, evaluator="asr,zero_shot", out=out, quiet=True)
    pd.testing.assert_frame_equal(_rows(out, "external"), _rows(out, "clip"))


def test_an_export_of_other_poison_is_refused(exported: Path, out: Path, tmp_path: Path) -> None:
    folder = exported
    content = json.loads((folder / "poison.json").read_text())
    (folder / "poison.json").write_text(json.dumps(content | {"hash": "0" * 16}))
    file = _checkpoint(out, "badnet", tmp_path / "theirs.pt")
    with pytest.raises(bench.UserError, match="its poison does not have the hash"):
        bench.evaluate_checkpoint(file, poison=folder, evaluator="asr", out=out, quiet=True)
    assert "external" not in _runs(out)
    (folder / "poison.json").unlink()
    with pytest.raises(bench.UserError, match=r"poison\.json: no manifest with a hash"):
        bench.evaluate_checkpoint(file, poison=folder, evaluator="asr", out=out, quiet=True)


def test_from_the_command_line(command_line: Bench, out: Path, tmp_path: Path) -> None:  # noqa: F811
    file = _checkpoint(out, "badnet", tmp_path / "theirs.pt")
    arguments = ("--attack", "badnet", "--evaluator", "asr", "--out", out, *SMALL)
    done = command_line("evaluate", "--weights", file, *arguments)
    assert (done.code, done.err) == (0, "")
    assert "external" in done.out
    refused = command_line("evaluate", "--weights", tmp_path / "none.pt", *arguments)
    assert (refused.code, refused.err) == (2, f"bench: {tmp_path / 'none.pt'}: no such file\n")
