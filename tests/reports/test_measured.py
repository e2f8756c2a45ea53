"""Metrics that are no columns: curves and scores of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.matrix.schema import EvalRecord
from bench.matrix.store import Store
from bench.reports.curves import curves_of
from bench.reports.figures import BOTTOM, LEFT, RIGHT, TOP, Plot
from bench.reports.model_detection import ALL, auroc, detection_of
from bench.reports.records import load_runs
from bench.reports.sections import Section, sections_of
from bench.reports.tables import utility_columns
from bench.reports.write import write_report

from .records_maker import NUMBERS, key_for


def _write(
    store: Store, attack: str, defense: str, seed: int, name: str, role: str, values: dict[str, float], **more: str
) -> None:
    metric = {
        "name": f"{name}_value",
        "unit": "fraction",
        "better": "higher",
        "description": "what it is",
        "role": role,
        **more,
    }
    measured = [
        {"metric": metric["name"], "task": task, "value": value, "n": 100, "ci_low": 0.0, "ci_high": 1.0}
        for task, value in values.items()
    ]
    record = {"evaluator": {"name": name, "version": "1", "params": {}}, "metrics": [metric], "measurements": measured}
    store.write_eval(key_for(attack, defense, seed), name, f"{name}0", EvalRecord.of(record))


def test_metrics_stand_in_the_order_in_which_they_are_declared(store: Store) -> None:
    run, names = key_for("badnet", "clip", 0), ["at_1", "at_5", "at_10"]
    metric = {"unit": "fraction", "better": "higher", "description": "", "role": "number"}
    measured = [
        {"metric": name, "task": task, "value": 0.5, "n": 100, "ci_low": 0.0, "ci_high": 1.0}
        for task in ("text", "image")
        for name in names
    ]
    record = {
        "evaluator": {"name": "ranks", "version": "1", "params": {}},
        "metrics": [{"name": name, **metric} for name in names],
        "measurements": measured,
    }
    store.write_eval(run, "ranks", "ranks0", EvalRecord.of(record))
    columns = [column for column in utility_columns(_section(store)) if column.name == "ranks"]
    assert [column.metric for column in columns] == [name for name in names for _ in ("mean", "image", "text")]


def _section(store: Store) -> Section:
    return next(section for section in sections_of(load_runs(store)) if "8 epochs" in section.subtitle)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    upper, lower = rng.integers(5, size=7), rng.integers(4, size=9)
    expected = roc_auc_score([1] * 7 + [0] * 9, [*upper, *lower])
    assert auroc(upper.tolist(), lower.tolist()) == pytest.approx(expected)


def test_scores_compare_models_of_one_defense(store: Store) -> None:
    """With better "higher" the lower value is the poisoned model's."""
    for seed, value in ((0, 0.5), (1, 0.4)):
        _write(store, "none", "clip", seed, "model", "model", {"model": value})
        _write(store, "badnet", "clip", seed, "model", "model", {"model": value - 0.2})
        _write(store, "wanet", "clip", seed, "model", "model", {"model": value + 0.05})
        _write(store, "badnet", "safeclip", seed, "model", "model", {"model": 0.1})
    found = {each.attack: each for each in detection_of(_section(store))}
    assert {each.defense for each in found.values()} == {"clip"}, "without clean models there is nothing to compare"
    assert (found["badnet 0.5%"].auroc, found["badnet 0.5%"].clean, found["badnet 0.5%"].attacked) == (1.0, 2, 2)
    assert found["wanet 2%"].auroc == 1 / 4
    assert found[ALL].auroc == pytest.approx((4 + 1) / 8)
    assert found["badnet 0.5%"].low < 0.4
    paths = write_report(store)
    assert "AUROC 1.00 [0.34, 1.00] between 2 models without attack and 2 with" in paths["index.html"].read_text()
    assert (
        paths["model_detection.csv"]
        .read_text()
        .startswith("section,evaluator,metric,defense,attack,auroc,low,high,clean,attacked")
    )


def test_a_curve_is_drawn_and_is_no_column(store: Store) -> None:
    values = {"0": 1.0, "1": 0.75, "80": 0.5, "1023": 0.0, "word": 0.3}
    for defense in ("clip", "safeclip"):
        _write(store, "badnet", defense, 0, "line", "curve", values, axis="poisoned pairs")
    section = _section(store)
    (curves,) = curves_of(section)
    (panel,) = curves.panels
    assert curves.attack == "badnet 0.5%"
    assert panel.note == "what it is: 100.0% at 0, 50.0% at 80 poisoned pairs."
    assert isinstance(panel.drawing, Plot)
    expected = [(LEFT, TOP), (LEFT + (RIGHT - LEFT) / 10, TOP + 0.25 * (BOTTOM - TOP))]
    assert np.allclose(panel.drawing.curves[0].points[:2], expected)
    assert panel.drawing.curves[0].points[-1] == pytest.approx((RIGHT, BOTTOM))
    assert panel.drawing.cut is not None
    assert panel.drawing.cut.text == "the attack's 80"
    assert panel.drawing.cut.at == pytest.approx(LEFT + (RIGHT - LEFT) * np.log2(81) / 10)
    assert "line" not in {column.name for column in utility_columns(section)}
    page = write_report(store)["index.html"].read_text()
    assert page.count(">poisoned pairs</text>") == 1


def test_curves_that_differ_have_panels_of_their_own(store: Store) -> None:
    for defense, value in (("clip", 0.5), ("safeclip", 0.25)):
        _write(store, "badnet", defense, 0, "line", "curve", {"0": 1.0, "8": value})
    (curves,) = curves_of(_section(store))
    assert len(curves.panels) == 2
    assert all(panel.drawing.cut is None for panel in curves.panels if isinstance(panel.drawing, Plot))


def test_without_such_metrics_nothing_is_said(store: Store, tmp_path: Path) -> None:
    assert NUMBERS
    section = _section(store)
    assert curves_of(section) == []
    assert detection_of(section) == []
    assert "model_detection.csv" not in write_report(store)
