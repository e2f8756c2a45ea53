"""Limits over telemetry, from a defense's word to the record of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from bench.api import Limit
from bench.defenses.roclip import RoCLIP
from bench.defenses.safeclip import SafeCLIP
from bench.matrix.store import Store
from bench.training.engagement import engagement

from .small import small_matrix
from .training import execute

CURVES = [{"loss": 9.0}, {"loss": 3.0, "share": 0.2}, {"share": 0.5}, {"share": math.nan}, {"share": 0.8}, {"loss": 1.0}]
SPLIT = ("train.epochs=4",)


@pytest.mark.parametrize(("at", "value"), [("first", 0.2), ("last", 0.8), ("mean", 0.5)])
@pytest.mark.parametrize(
    ("low", "high", "engaged"),
    [(0.0, None, True), (0.9, None, False), (None, 0.9, True), (None, 0.1, False), (0.1, 0.9, True), (0.85, 0.9, False)],
)
def test_a_value_inside_and_outside(at: Any, value: float, low: float | None, high: float | None, engaged: bool) -> None:
    (found,) = engagement([Limit("share", at, "the share", "do more", low, high)], CURVES)
    assert found.pop("value") == pytest.approx(value)
    told = {"figure": "share", "at": at, "what": "the share", "advice": "do more", "unit": "fraction"}
    assert found == {**told, "low": low, "high": high, "engaged": engaged}


@pytest.mark.parametrize(("low", "high"), [(0.85, None), (None, 0.85), (0.85, 0.85)])
def test_the_bounds_are_inside(low: float | None, high: float | None) -> None:
    (found,) = engagement([Limit("share", "last", "", "", low, high)], [{"share": 0.85}])
    assert found["engaged"]


def test_what_was_never_measured_is_outside() -> None:
    (found,) = engagement([Limit("nothing", "last", "", "", low=0.0)], CURVES)
    assert (found["value"], found["engaged"]) == (None, False)


def _records(out: Path, *options: str, defenses: tuple[str, ...], stop_after: int | None = None) -> dict[str, dict[str, Any]]:
    matrix, store = small_matrix(*options, defenses=defenses), Store.create(out)
    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            execute(matrix, store, stop_after=stop_after)
    execute(matrix, store)
    return {cell.spec.defense.name: store.run_record(cell.key) or {} for cell in matrix.cells}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder with runs that nothing disturbs, and their records."""
    out = tmp_path_factory.mktemp("whole")
    return out, _records(out, *SPLIT, defenses=("safeclip", "roclip"))


def _verdicts(record: dict[str, Any]) -> dict[tuple[str, str, bool], bool]:
    """By figure, epoch and whether it is the lower bound."""
    return {(each["figure"], each["at"], each["low"] is not None): each["engaged"] for each in record["engagement"]}


def test_a_first_safe_set_of_all_pairs_is_flagged_and_a_normal_one_is_not(tmp_path: Path, whole: Any) -> None:
    options = *SPLIT, "defense.safeclip.threshold=0", "defense.safeclip.largest=1"
    everything = _records(tmp_path, *options, defenses=("safeclip",))["safeclip"]
    for record, engaged in ((everything, False), (whole[1]["safeclip"], True)):
        found = _verdicts(record)
        assert found["safe_share", "first", False] == found["safe_share", "last", False] == engaged
        assert found["safe_share", "first", True]
        first = next(curve for curve in record["curves"] if "safe_share" in curve)
        assert first["epoch"] == 1
        values = {(each["figure"], each["at"]): each["value"] for each in record["engagement"]}
        assert values["safe_share", "first"] == first["safe_share"]
        assert values["safe_share", "last"] == record["curves"][-1]["safe_share"]
        assert values["mismatch_auc", "first"] == first["mismatch_auc"]


@pytest.mark.parametrize(("threshold", "kept_all"), [(-99, True), (0.5, False)])
def test_a_filter_that_drops_nothing(tmp_path: Path, threshold: float, kept_all: bool) -> None:
    option = f"defense.clip_filter.threshold={threshold}"
    records = _records(tmp_path, option, defenses=("clip_filter", "clip"))
    found = _verdicts(records["clip_filter"])
    assert (records["clip_filter"]["curves"][0]["safe_share"] == 1) == kept_all
    assert found["dropped", "last", True] == (not kept_all)
    assert found["safe_share", "last", True]
    assert records["clip"]["engagement"] == []


def test_measuring_changes_no_weight(tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SafeCLIP, "_planted_mismatches", lambda self, scorer: {})
    monkeypatch.setattr(RoCLIP, "_measured", lambda self, matched, scorer: {})
    without = _records(tmp_path, *SPLIT, defenses=("safeclip", "roclip"))
    for told, name in (("mismatch_auc", "safeclip"), ("match_auc", "roclip")):
        assert [any(told in curve for curve in records[name]["curves"]) for records in (whole[1], without)] == [True, False]
    weights = [path.relative_to(tmp_path) for path in tmp_path.glob("runs/*/model.safetensors")]
    assert len(weights) == 2
    assert all((tmp_path / path).read_bytes() == (whole[0] / path).read_bytes() for path in weights)


@pytest.mark.parametrize("stop", [2, 10])
def test_an_interruption_changes_no_verdict(tmp_path: Path, whole: Any, stop: int) -> None:
    parts = _records(tmp_path, *SPLIT, defenses=("safeclip",), stop_after=stop)["safeclip"]["engagement"]
    assert parts == whole[1]["safeclip"]["engagement"]
    assert all(each["value"] is not None for each in parts)
