"""`bench.load_results`, against a folder made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.interface.results import COLUMNS
from bench.matrix.request_schema import RequestRecord
from tests.reports.records_maker import EVIL, FLOOR, NUMBERS, RATES, key_for, make, spec_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return bench.load_results(folder)


def test_columns_and_dtypes_are_those_of_the_docstring(frame: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    described = str(bench.load_results.__doc__)
    told = {
        name: dtype
        for names, dtype in re.findall(r"^        ([\w, ]+) : (string|float64|Int64|int64)$", described, re.MULTILINE)
        for name in names.split(", ")
    }
    assert told == COLUMNS


def test_every_number_is_there(frame: pd.DataFrame) -> None:
    for (attack, defense), rows in NUMBERS.items():
        for seed, asr, zero, colour, shape in rows:
            mine = frame[frame.run_key == key_for(attack, defense, seed)].set_index(["evaluator", "task", "metric"])
            expected = {
                ("zero_shot", "object", "top1"): zero,
                ("linear_probe", "colour", "top1"): colour,
                ("linear_probe", "shape", "top1"): shape,
            }
            if attack != "none":
                expected |= {
                    ("asr", "all", "asr"): asr,
                    ("asr", "all", "asr_floor"): FLOOR,
                    ("asr", "all", "triggered_top1"): zero / 2,
                }
            done = mine[mine.status == "done"]
            assert done.value.to_dict() == expected
            for identity, value in expected.items():
                row = done.loc[identity]
                assert (row.n, row.ci_low, row.ci_high) == (
                    600 if identity[0] == "asr" else 2000, max(0.0, value - 0.02), min(1.0, value + 0.02),
                )  # fmt: skip
            assert set(mine.seed) == {seed}
            assert set(mine.attack) == {attack}
            assert set(mine.rate.dropna()) == ({RATES[attack]} if attack != "none" else set())


def test_what_has_no_number_says_why(frame: pd.DataFrame) -> None:
    def of(attack: str, defense: str, seed: int) -> pd.DataFrame:
        return frame[frame.run_key == key_for(attack, defense, seed)]

    assert set(of("badnet", "safeclip", 2).status) == {"missing"}
    assert of("badnet", "roclip", 1).reason.tolist() == ["train: RuntimeError: loss is NaN"] * 3
    assert set(of("wanet", EVIL, 0).reason) == {"does not warp images"}
    unmeasured = of("none", "clip", 0).set_index("evaluator").loc["asr"]
    assert (unmeasured.status, unmeasured.reason) == ("unsupported", "needs an attack")
    assert pd.isna(unmeasured.value)
    assert pd.isna(unmeasured.n)
    assert frame[frame.status == "done"].reason.isna().all()


def test_options_tell_cells_of_one_name_apart(frame: pd.DataFrame) -> None:
    safe = frame[(frame.defense == "safeclip") & (frame.attack == "badnet") & (frame.metric == "asr") & (frame.seed == 0)]
    params = [json.loads(text) for text in safe.defense_params]
    assert sorted(zip((p["threshold"] for p in params), safe.value, strict=True)) == [(0.7, 0.05), (0.9, 0.10), (0.9, 0.12)]
    assert safe.groupby(["train", "defense_params"]).ngroups == 3
    trained = spec_of("badnet", "safeclip", 0)["train"]
    assert trained in [json.loads(text) for text in safe.train]
    assert set(safe.train_seconds) == {241.5}


def test_controls(tmp_path: Path) -> None:
    store = make(tmp_path)
    spec = {**spec_of("badnet", "clip", 0), "engine": "2"}
    spec["defense"] = {
        "name": "control_steps",
        "version": "1",
        "params": {},
        "beside": spec_of("badnet", "safeclip", 0)["defense"],
    }
    cell = {"run_key": "c0ffee", "spec": spec, "recipe": "small", "defense": "control_steps", "evaluators": []}
    store.write_request("controls", RequestRecord.of({"cells": [cell]}))
    found = bench.load_results(tmp_path).set_index("run_key").loc["c0ffee"]
    assert found[["defense", "control_of", "recipe", "engine", "status"]].tolist() == [
        "control_steps", "safeclip", "small", "2", "missing",
    ]  # fmt: skip


def test_a_damaged_record_is_left_out_with_a_warning(tmp_path: Path, frame: pd.DataFrame) -> None:
    make(tmp_path)
    key = key_for("badnet", "clip", 1)
    (file,) = tmp_path.glob(f"runs/{key}/evals/zero_shot-*.json")
    file.write_text(file.read_text()[:100])
    with pytest.warns(UserWarning, match=rf"{re.escape(str(file))}: .*; it is skipped"):
        found = bench.load_results(tmp_path)
    lost = found[(found.run_key == key) & (found.evaluator == "zero_shot")]
    assert lost.status.tolist() == ["missing"]
    assert len(found) == len(frame)


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    found = bench.load_results(tmp_path)
    assert (len(found), list(found.columns)) == (0, list(COLUMNS))
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == COLUMNS
    with pytest.raises(bench.UserError, match="no such folder"):
        bench.load_results(tmp_path / "none")
