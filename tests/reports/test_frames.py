"""Which cells are done, missing, failed or unsupported, and exact numbers in the frame."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import Failure
from bench.matrix.store import SCHEMA, Store
from bench.reports.frames import WIDE, wide_frame
from bench.reports.records import load_runs

from .records_maker import EVIL, NUMBERS, cell_of, key_for, key_of, write_eval, write_evals, write_training


def frame_of(store: Store) -> pd.DataFrame:
    return wide_frame(load_runs(store))


def of(frame: pd.DataFrame, attack: str, defense: str, seed: int) -> pd.DataFrame:
    return frame[(frame.attack == attack) & (frame.defense == defense) & (frame.seed == seed)]


def test_columns_and_every_number(store: Store) -> None:
    frame = frame_of(store)
    assert list(frame.columns) == WIDE
    found = {(row.run_key, row.metric, row.task): row.value for row in frame.itertuples() if row.status == "done"}
    for (attack, defense), rows in NUMBERS.items():
        for seed, asr, zero, colour, shape in rows:
            key = key_for(attack, defense, seed)
            assert found[key, "top1", "object"] == zero
            assert (found[key, "top1", "colour"], found[key, "top1", "shape"]) == (colour, shape)
            assert attack == "none" or found[key, "asr", "all"] == asr
    # 14 runs of the table with 3 metrics of utility; 12 of them with 3 of the attack; 2 longer runs with all 6
    assert (frame.status == "done").sum() == 14 * 3 + 12 * 3 + 2 * 6


def test_missing(store: Store) -> None:
    rows = of(frame_of(store), "badnet", "safeclip", 2)
    assert list(rows.evaluator) == ["asr", "linear_probe", "zero_shot"]
    assert set(rows.status) == {"missing"}
    assert rows.reason.str.contains("`bench run`").all()
    assert set(rows.metric) == {None}
    assert rows.value.isna().all()


def test_failed_in_training(store: Store) -> None:
    rows = of(frame_of(store), "badnet", "roclip", 1)
    assert set(rows.status) == {"failed"}
    assert set(rows.reason) == {"train: RuntimeError: loss is NaN"}


def test_failed_evaluator_is_that_evaluator_alone(store: Store) -> None:
    rows = of(frame_of(store), "wanet", "roclip", 0).set_index("evaluator")
    assert rows.status.to_dict() == {"asr": "failed", "linear_probe": "missing", "zero_shot": "missing"}
    assert rows.reason["asr"] == "eval:asr: ValueError: no probes"


def test_unsupported_cell_and_evaluator(store: Store) -> None:
    frame = frame_of(store)
    assert set(of(frame, "wanet", EVIL, 0).status) == {"unsupported"}
    assert set(of(frame, "wanet", EVIL, 0).reason) == {"does not warp images"}
    plain = of(frame, "none", "clip", 0).set_index("evaluator")
    assert (plain.status["asr"], plain.reason["asr"]) == ("unsupported", "needs an attack")
    assert plain.status["zero_shot"] == "done"


def test_a_stale_failure_does_not_hide_a_finished_cell(store: Store) -> None:
    store.write_failure(key_for("badnet", "clip", 0), Failure.of({"stage": "train", "error": "old", "traceback": ""}))
    assert set(of(frame_of(store), "badnet", "clip", 0).status) == {"done"}


def test_a_stale_failure_of_training_does_not_make_an_evaluation_failed(store: Store) -> None:
    run = key_for("badnet", "clip", 0)
    store.write_failure(run, Failure.of({"stage": "train", "error": "old", "traceback": ""}))
    next(store.run_dir(run).glob("evals/asr-*.json")).unlink()
    rows = frame_of(store).query("run_key == @run and evaluator == 'asr'")
    assert list(rows.status) == ["missing"]


def test_the_latest_evaluation_counts_across_time_zones(store: Store) -> None:
    run, values = key_for("none", "clip", 0), {("top1", "object"): 0.25}
    write_eval(store, run, "zero_shot", values, finished="2026-01-02T06:00:00+00:00", key="0000", version="2")
    values = {("top1", "object"): 0.5}  # later by the letters of its time and key, but earlier
    write_eval(store, run, "zero_shot", values, finished="2026-01-02T07:30:00+05:00", key="ffff", version="0")
    rows = of(frame_of(store), "none", "clip", 0)
    assert list(rows[rows.evaluator == "zero_shot"].value) == [0.25]


def test_an_evaluation_of_another_key_stands_for_a_missing_one(store: Store) -> None:
    cell = cell_of("badnet", "clip", 0)
    cell["evaluators"] = [{"name": "zero_shot", "eval_key": "never-done", "unsupported": None}]
    store.write_request("other", RequestRecord.of({"cells": [cell]}))
    rows = of(frame_of(store), "badnet", "clip", 0)
    assert list(rows[(rows.evaluator == "zero_shot") & (rows.run_key == key_for("badnet", "clip", 0))].status) == ["done"]


@pytest.mark.parametrize("text", ['{"schema": 1, "run_', "", "[]", "\ufffd"])
def test_a_damaged_record_counts_as_missing(store: Store, text: str) -> None:
    key = key_for("badnet", "clip", 0)
    (store.run_dir(key) / "run.json").write_text(text, encoding="utf-8")
    rows = frame_of(store).query("run_key == @key")
    assert list(rows.status) == ["missing"] * 3
    assert rows.reason.str.contains("cannot be read").all()
    longer = key_for("badnet", "clip", 0, 16)  # nobody asked for this one: nothing is known about it
    (store.run_dir(longer) / "run.json").write_text(text, encoding="utf-8")
    assert longer not in set(frame_of(store).run_key)


def test_a_record_of_another_run_does_not_count(store: Store) -> None:
    one, other = (store.run_dir(key_for("badnet", "clip", seed)) / "run.json" for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    assert set(of(frame_of(store), "badnet", "clip", 0).query("evaluator == 'asr'").status) == {"missing", "done"}


def test_a_record_of_an_unknown_schema_is_named_and_left_out(store: Store) -> None:
    path = store.run_dir(key_for("badnet", "clip", 0)) / "evals" / f"asr-{key_of('asr')}.json"
    whole = frame_of(store)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    frame = frame_of(store)
    asked = (frame.run_key == key_for("badnet", "clip", 0)) & (frame.evaluator == "asr")
    assert list(frame[asked].status) == ["missing"]
    others = [table[(table.run_key != path.parts[-3]) | (table.evaluator != "asr")] for table in (frame, whole)]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in others))
    assert store.damaged == {str(path.relative_to(store.root)): f"schema: is 99; this version reads up to {SCHEMA}"}


def test_order_does_not_depend_on_the_order_of_writing(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    for (attack, defense), rows in reversed(NUMBERS.items()):
        for seed, *numbers in reversed(rows):
            write_evals(other, attack, defense, seed, tuple(numbers))
            write_training(other, attack, defense, seed)
    frame = frame_of(store)
    keys = [key_for(*pair, row[0]) for pair, rows in NUMBERS.items() for row in rows]
    expected = frame[frame.run_key.isin(keys) & (frame.status == "done")].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame_of(other), expected)


def test_sorted_by_name_then_rate_then_seed(store: Store) -> None:
    rows = frame_of(store).drop_duplicates("run_key")
    keys = list(zip(rows.attack, rows.attack_rate.fillna(-1.0), strict=True))
    longer = {key_for("badnet", defense, 0, 16) for defense in ("clip", "safeclip")}
    assert set(rows.run_key[-2:]) == longer
    assert keys[:-2] == sorted(keys[:-2])
    assert list(rows[(rows.attack == "badnet") & (rows.defense == "clip")].seed) == [0, 1, 0]


def test_empty_folder(tmp_path: Path) -> None:
    frame = frame_of(Store.create(tmp_path / "empty"))
    assert frame.empty
    assert list(frame.columns) == WIDE


def test_trained_without_any_evaluation_is_shown(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "bare")
    write_training(store, "badnet", "clip", 0)
    frame = frame_of(store)
    assert list(frame.status) == ["missing"]
    assert list(frame.attack_rate) == [0.005]
