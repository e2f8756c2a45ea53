"""What evaluators keep: the numbers that they give follow from it, row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evaluator_fakes import NAMES, FakeContext, PointModel, bundle, points, task

from bench.api import Params, Predictions, Probe
from bench.evaluators.asr import ASR
from bench.evaluators.linear_probe import LinearProbe, LinearProbeParams
from bench.evaluators.zero_shot import ZeroShot
from bench.matrix.kept import filed
from bench.matrix.predictions import DTYPES, unpack

CAT, DOG, OWL = range(3)
SHARED = ("crane", "heron", "crane")


def _rows(ctx: FakeContext) -> pd.DataFrame:
    return unpack(filed(ctx.kept)[1])


def test_every_probe_beside_what_is_true_and_wanted() -> None:
    shown = [(DOG,), (OWL, DOG), (), (OWL,)]
    probes = [Probe("test", row, CAT, {}, group) for row, group in enumerate(("patch", "warp", "patch", "warp"))]
    data = bundle(test=shown, holdout=[(OWL,)])
    pictures, clean = points([CAT, DOG, DOG, CAT, DOG]), PointModel(shift=1)
    ctx = FakeContext(data, probes=[*probes, Probe("holdout", 0, DOG)], pictures=pictures, clean=clean)
    told = {(each.metric, each.task): (each.value, each.n) for each in ASR(Params()).evaluate(ctx)}
    rows = _rows(ctx)
    assert rows.dtypes.astype(str).to_dict() == DTYPES
    assert rows.group.tolist() == ["patch", "warp", "patch", "warp", "4"], "an image without a trigger is a target of its own"
    assert rows.uid.tolist() == ["0", "1", "2", "3", "0"]
    assert rows.target.tolist() == ["cat", "cat", "cat", "cat", "dog"]
    assert rows.predicted.tolist() == ["cat", "dog", "dog", "cat", "dog"]
    assert rows.predicted_clean.tolist() == ["dog", "owl", "owl", "dog", "owl"]
    assert [*rows.true.cat.codes] == [DOG, OWL, -1, OWL, OWL]
    assert rows.correct.tolist() == [False, True, pd.NA, False, False], "any class that the image shows is right"
    assert rows.place.isna().all()
    assert told["asr", "all"] == ((rows.predicted == rows.target).mean(), 5)
    assert told["asr_floor", "all"] == ((rows.predicted_clean == rows.target).mean(), 5)
    assert told["triggered_top1", "all"] == (rows.correct.dropna().mean(), 4)
    warped = rows[rows.group == "warp"]
    assert told["asr", "warp"] == ((warped.predicted == warped.target).mean(), 2)
    assert told["triggered_top1", "warp"] == (warped.correct.mean(), 2)


@pytest.mark.parametrize("evaluator", [ZeroShot(Params()), LinearProbe(LinearProbeParams())], ids=["zero_shot", "linear_probe"])
def test_tasks_with_classes_of_their_own(evaluator: ZeroShot | LinearProbe) -> None:
    """Of the classes two share a name, as two pairs of ImageNet's do."""
    train, test = [0, 1, 2] * 20, [0, 1, 2, 2, 1, 0, 1, 0]
    images = (points(train, noise=0.05), points(test, noise=0.8, seed=3))
    birds = replace(task("birds", train, test, images, SHARED), mean_per_class=True)
    ctx = FakeContext(bundle(tasks=(replace(birds, test_uids=list("abcdefgh")), task("kind", train, test, images, NAMES))))
    told = {(each.metric, each.task): each.value for each in evaluator.evaluate(ctx)}
    rows = _rows(ctx)
    found = rows[rows.task == "birds"]
    assert found.true.tolist() == [("crane (0)", "heron", "crane (2)")[label] for label in test]
    assert (found.uid.tolist(), rows[rows.task == "kind"].uid.tolist()) == (list("abcdefgh"), list("01234567"))
    assert 0 < told["top1", "birds"] < 1
    assert told["top1", "birds"] == (found.predicted == found.true).mean() == found.correct.mean()
    assert told["mean_per_class", "birds"] == pytest.approx(found.groupby("true", observed=True).correct.mean().mean())
    assert told["top1", "kind"] == rows[rows.task == "kind"].correct.mean()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = tuple(f"class {number}" for number in range(300))
    kept = []
    for name, rows in (("first", 40), ("second", 7)):
        columns = {column: rng.integers(-1, 300, size=rows) for column in ("predicted", "predicted_clean", "true", "target")}
        places = {column: rng.integers(0, 100_000, size=rows) for column in ("place", "place_clean")}
        places |= {"rejected": rng.random(rows) < 0.5, "suspicion": rng.normal(size=rows)} if name == "first" else {}
        uids, groups = [f"{name} ü {row}" for row in range(rows)], rng.choice(["a", "b"], size=rows).tolist()
        kept.append(Predictions(name, classes[:: 1 if name == "first" else -1], uids, groups=groups, **columns, **places))
    record, content = filed(kept)
    found = unpack(content)
    assert (len(found), record.rows) == (47, 47)
    for name, start, each in (("first", 0, kept[0]), ("second", 40, kept[1])):
        part = found[found.task == name]
        assert part.index.tolist() == list(range(start, start + len(each)))
        for column in ("predicted", "predicted_clean", "true", "target"):
            expected = [each.classes[code] if code >= 0 else "none" for code in getattr(each, column)]
            assert part[column].astype("string").fillna("none").tolist() == expected
        assert (part.uid.tolist(), part.group.tolist()) == (list(each.uids), list(each.groups))
        assert part.rejected.tolist() == ([pd.NA] * 7 if each.rejected is None else each.rejected.tolist())
        expected = [pd.NA] * 7 if each.suspicion is None else each.suspicion.astype(np.float32).tolist()
        assert part.suspicion.tolist() == expected
        assert (part.place.tolist(), part.place_clean.tolist()) == (list(each.place), list(each.place_clean))  # type: ignore[arg-type]
    assert filed(kept)[1] == content


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "neither predicted nor place has a row"),
        ({"predicted": np.array([], dtype=int)}, "neither predicted nor place has a row"),
        ({"predicted": np.array([0, 1]), "true": np.array([0])}, "columns differ in length: .*'true': 1"),
        ({"predicted": np.array([0, 1]), "uids": ["a"]}, "columns differ in length: .*'uids': 1"),
        ({"place": np.array([0, 1]), "groups": ["a"]}, "columns differ in length: .*'groups': 1"),
        ({"predicted": np.array([0, 3])}, r"predicted is outside -1\.\.2"),
        ({"predicted": np.array([0, 1]), "target": np.array([0, -2])}, r"target is outside -1\.\.2"),
    ],
)
def test_what_does_not_fit_together_is_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"predictions on kind: {message}"):
        Predictions("kind", NAMES, **columns)  # type: ignore[arg-type]
