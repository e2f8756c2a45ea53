"""`bench.load_predictions`: the means on record follow from it, and no file but that of the record is read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import bench
from bench.api import Predictions
from bench.interface.predictions import COLUMNS
from bench.matrix.kept import filed
from bench.matrix.predictions import joined, unpack
from tests.e2e.conftest import SMALL

ASKED: dict[str, Any] = {"defense": "clip", "set": (*SMALL[1::2], "attack.rate=0.05"), "quiet": True}
EVALUATORS = ("asr", "asr_linear_probe", "corruptions", "linear_probe", "retrieval", "retrieval_asr", "zero_shot")
SHARES: dict[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    r"asr(_probe)?": lambda rows: rows.predicted == rows.target,
    r"asr(_probe)?_floor": lambda rows: rows.predicted_clean == rows.target,
    r"triggered_top1": lambda rows: rows.correct.dropna(),
    r"top1(_\w+)?": lambda rows: rows.predicted == rows.true,
    **{rf"(recall|hit)_at_{k}": lambda rows, k=k: rows.place < k for k in (1, 5, 10)},
    **{rf"hit_at_{k}_floor": lambda rows, k=k: rows.place_clean < k for k in (1, 5, 10)},
}
"""What each metric is the share of."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    found = bench.run(out=folder, attack="badnet,pba_all2one,tdpa", evaluator=EVALUATORS, **ASKED)
    assert found.outcomes == {"done": 4}
    return folder


@pytest.fixture(scope="module")
def rows(whole: Path) -> pd.DataFrame:
    return bench.load_predictions(whole)


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def _of(rows: pd.DataFrame, measured: Any) -> pd.DataFrame:
    """The rows that a measurement is the mean over."""
    mine = rows[(rows.run_key == measured.run_key) & (rows.evaluator == measured.evaluator)]
    corruption = measured.metric.removeprefix("top1_")
    column = "task" if measured.task in set(mine.task) else "group"
    mine = mine[mine[column] == measured.task]
    return mine[mine.group == corruption] if corruption in set(mine.group) else mine


def test_every_mean_on_record_is_one_over_these_rows(whole: Path, rows: pd.DataFrame) -> None:
    told = bench.load_results(whole)
    told = told[told.status == "done"]
    assert set(told.evaluator) == set(EVALUATORS)
    assert {"wanet", "blended", "badnet"} < set(told[told.metric == "asr"].task)
    for measured in told.itertuples():
        (share,) = (share for metric, share in SHARES.items() if re.fullmatch(metric, measured.metric))
        hits = share(_of(rows, measured))
        assert hits.mean() == measured.value, measured
        assert len(hits) == measured.n * (4 if measured.metric == "top1_corrupted" else 1)


def test_the_rows_are_those_of_the_attack_and_the_data(rows: pd.DataFrame) -> None:
    asr = rows[rows.evaluator == "asr"]
    assert set(asr.attack) == {"badnet", "pba_all2one", "tdpa"}
    assert set(asr[asr.attack == "badnet"].group) == {"all"}
    assert set(asr[asr.attack == "pba_all2one"].group) == {"wanet", "blended", "badnet"}
    targets = asr[asr.attack == "tdpa"]
    assert targets.group.tolist() == [str(number) for number in range(len(targets))]
    assert targets.uid.str.startswith("holdout/").all()
    assert not (asr.true == asr.target).any(), "no probe shows the class that the adversary wants"
    tasks = rows[rows.evaluator == "linear_probe"]
    tests = [f"test/{row:06d}" for row in range(64)]
    assert all(part.uid.tolist() == tests for _, part in tasks.groupby(["run_key", "task"], observed=True))
    assert (tasks.correct == (tasks.predicted == tasks.true)).all()
    assert rows.control_of.isna().all()


def test_columns_and_dtypes_are_those_of_the_docstring(rows: pd.DataFrame) -> None:
    assert rows.dtypes.astype(str).to_dict() == COLUMNS
    told = re.findall(
        r"^        ([\w, ]+) : (category|boolean|Int32|int64|Float32)$", str(bench.load_predictions.__doc__), re.MULTILINE
    )
    assert {name: dtype for names, dtype in told for name in names.split(", ")} == COLUMNS


def test_a_matrix_of_60_runs_stays_small() -> None:
    rng, names = np.random.default_rng(0), tuple(f"class {number}" for number in range(100))
    part = Predictions("kind", names, predicted=rng.integers(100, size=9_000), true=rng.integers(100, size=9_000))
    one = unpack(filed([part])[1])
    runs = [one.assign(run_key=pd.Categorical([f"{run:016d}"] * len(one))) for run in range(60)]
    whole = joined(runs)
    assert len(whole) == 540_000
    assert whole.memory_usage(deep=True).sum() < 30 * len(whole)
    assert whole.run_key.nunique() == 60


def _file(out: Path, name: str = "asr") -> Path:
    return sorted(out.glob(f"runs/*/evals/{name}-*.npz"))[0]


def test_any_byte_that_is_changed_is_seen(out: Path) -> None:
    file = _file(out)
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=20).tolist():
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(bench.UserError, match=f"^{re.escape(str(file))} is not the file of its record"):
            bench.load_predictions(out)
    file.write_bytes(whole[:-1])
    with pytest.raises(bench.UserError, match=f"^{re.escape(str(file))} is not the file of its record"):
        bench.load_predictions(out)
    file.unlink()
    with pytest.raises(bench.UserError, match=rf"^{re.escape(str(file))} cannot be read \(No such file or directory\)"):
        bench.load_predictions(out)


def test_a_file_that_is_no_archive_is_refused_though_its_record_has_its_digest(out: Path) -> None:
    file, record = _file(out), _file(out).with_suffix(".json")
    told = json.loads(record.read_text())
    file.write_bytes(b"")
    told["predictions"]["sha256"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    record.write_text(json.dumps(told))
    with pytest.raises(bench.UserError, match=rf"{file.name} is not a file of predictions: .*delete {record.name} beside it"):
        bench.load_predictions(out)


def test_records_of_earlier_versions_have_no_rows(whole: Path, out: Path, rows: pd.DataFrame) -> None:
    for record in out.glob("runs/*/evals/*.json"):
        told = json.loads(record.read_text())
        if told["evaluator"]["name"] != "zero_shot":
            del told["predictions"]
            record.write_text(json.dumps(told))
            record.with_suffix(".npz").unlink()
    left = bench.load_predictions(out)
    assert set(left.evaluator) == {"zero_shot"}
    assert len(left) == (rows.evaluator == "zero_shot").sum()
    pd.testing.assert_frame_equal(bench.load_results(out), bench.load_results(whole))
    empty = bench.load_predictions(Path(__file__).parents[1] / "golden")
    assert (len(empty), empty.dtypes.astype(str).to_dict()) == (0, COLUMNS)


def test_a_run_that_ends_between_the_two_files_is_resumed(
    out: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions are written before their record, so that no record is without them."""
    again = lambda: bench.run(out=out, attack="badnet,pba_all2one,tdpa", evaluator=EVALUATORS, **ASKED)  # noqa: E731
    files = {path: path.read_bytes() for path in out.glob("runs/*/evals/*.npz")}
    assert len(files) == 4 * 4 + 3 * 3
    file = _file(out)
    file.with_suffix(".json").unlink()
    file.write_bytes(b"of another time")
    assert len(bench.load_predictions(out)) < len(rows)
    with monkeypatch.context() as patch:
        patch.setattr("bench.matrix.store.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again()
    assert not file.with_suffix(".json").exists()
    assert file.read_bytes() == files[file]
    again()
    assert {path: path.read_bytes() for path in out.glob("runs/*/evals/*.npz")} == files
    pd.testing.assert_frame_equal(bench.load_predictions(out), rows)
    assert not list(out.rglob("*.tmp"))


def test_a_further_evaluator_leaves_the_files_of_the_others(out: Path) -> None:
    files = {path: path.read_bytes() for path in out.glob("runs/*/evals/*")}
    bench.run(out=out, attack="badnet", evaluator="zero_shot,bdetclip,certificate", **ASKED)
    new = {path.name.partition("-")[0] for path in out.glob("runs/*/evals/*") if path not in files}
    assert new == {"bdetclip", "certificate"}
    assert {path: path.read_bytes() for path in files} == files
    assert not list(out.glob("runs/*/evals/certificate-*.npz")), "a curve has no rows"


def test_what_a_detector_says_of_each_image(out: Path) -> None:
    bench.run(out=out, attack="badnet", evaluator="bdetclip", **ASKED)
    rows, told = bench.load_predictions(out), bench.load_results(out)
    rows, told = (frame[frame.evaluator == "bdetclip"] for frame in (rows, told))
    value, triggered = dict(zip(told.metric, told.value, strict=True)), rows.target.notna()
    assert rows.uid.str.startswith("test/").all()
    assert value["detected"] == rows.rejected[triggered].mean()
    assert value["false_alarms"] == rows.rejected[~triggered].mean()
    assert value["asr_undetected"] == ((rows.predicted == rows.target) & ~rows.rejected)[triggered].mean()
    assert value["auroc"] == pytest.approx(roc_auc_score(triggered, rows.suspicion.astype(float)))
    assert not rows.rejected.any() or rows.suspicion[rows.rejected].min() > rows.suspicion[~rows.rejected].max()
    assert not set(rows.uid[~triggered]) - {f"test/{row:06d}" for row in range(64)}
    assert rows.uid[~triggered].is_unique
