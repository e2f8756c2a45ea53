"""Controls beside defended cells, from plan to record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import keys, plugins
from bench.defenses.controls import Control
from bench.errors import UserError
from bench.matrix.expand import Cell, Matrix, MatrixRequest, expand
from bench.matrix.store import Store
from bench.registry import defenses

from .small import SIZES, raw
from .training import execute

OPTIONS = (
    *SIZES,
    "train.epochs=5",
    "train.batch_size=32",
    "attack.rate=0.05",
    "defense.safeclip.clip_epochs=1",
    "defense.safeclip.pool=32",
    "defense.safeclip.growth=1",
)


def matrix(
    defenses: Sequence[str], controls: bool = True, attacks: Sequence[str] = ("badnet",), options: Sequence[str] = ()
) -> Matrix:
    plugins.load()
    return expand(MatrixRequest("scenes", attacks, defenses, ["zero_shot"], options=(*OPTIONS, *options), controls=controls))


def beside(found: Matrix, defense: str) -> dict[str, Cell]:
    return {c.spec.defense.name: c for c in found.cells if c.spec.defense.beside and c.spec.defense.beside.name == defense}


def record(store: Store, cell: Cell) -> dict[str, Any]:
    return raw(store.run_record(cell.key))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The set of each control that is trained, by its name."""
    made: dict[str, np.ndarray] = {}
    before = Control.__init__

    def noted(self: Control, *arguments: Any) -> None:
        before(self, *arguments)
        made[self.name] = self._subset

    monkeypatch.setattr(Control, "__init__", noted)
    return made


def test_none_is_planned_unasked_nor_beside_plain_clip_or_what_starts_from_it() -> None:
    names = ["clip", "safeclip", "cleanclip", "clip_filter", "fine_tuning"]
    without, with_them = matrix(names, controls=False), matrix(names)
    assert not [cell for cell in without.cells if cell.spec.defense.beside]
    assert {c.spec.defense.beside.name for c in with_them.cells if c.spec.defense.beside} == {"safeclip", "clip_filter"}
    assert {cell.key for cell in without.cells} < {cell.key for cell in with_them.cells}
    assert not [cell for cell in matrix(["all"], controls=False).cells if cell.spec.defense.name.startswith("control")]


def test_a_control_comes_after_its_cell_and_has_its_key_without_a_record() -> None:
    found = matrix(["safeclip"])
    order = [cell.key for cell in found.cells]
    controls = beside(found, "safeclip")
    assert set(controls) == {"control_steps", "control_size"}
    for cell in controls.values():
        defended = cell.spec.model_copy(update={"defense": cell.spec.defense.beside})
        assert cell.control_of == defended
        assert defended in cell.training_dependencies
        assert order.index(keys.run_key(defended)) < order.index(cell.key)
    others = beside(matrix(["safeclip"], options=["defense.safeclip.growth=0.5"]), "safeclip")
    assert len({cell.key for cell in (*controls.values(), *others.values())}) == 4


def test_a_cell_that_cannot_be_run_has_controls_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.load()
    monkeypatch.setattr(defenses["safeclip"].plugin, "supports", classmethod(lambda cls, spec: "not on Mondays"))
    found = matrix(["safeclip"])
    reasons = {cell.spec.defense.name: cell.unsupported for cell in found.cells if cell.spec.defense.name != "clip"}
    assert reasons == dict.fromkeys(("safeclip", "control_steps", "control_size"), "not on Mondays")


def test_numbers_are_those_of_the_defended_record(tmp_path: Path, chosen: dict[str, np.ndarray]) -> None:
    found, store = matrix(["safeclip"]), Store.create(tmp_path)
    outcomes, _ = execute(found, store)
    assert outcomes == {"done": len(found.cells)}
    defended = record(store, next(c for c in found.cells if c.spec.defense.name == "safeclip"))
    pairs, curves = defended["data"]["train_pairs"], defended["curves"]
    sizes = [round(curve["safe_share"] * pairs) for curve in curves[1:-1]]  # of the safe sets that epochs 2, 3 and 4 train on
    steps = sum(size // 32 for size in sizes)
    assert len(set(sizes)) == 3
    assert [curve.get("steps_safe", 0) for curve in curves] == [0, 0, *(size // 32 for size in sizes)]
    for name, cell in beside(found, "safeclip").items():
        assert sum(curve["steps"] for curve in record(store, cell)["curves"]) == steps
        assert len(chosen[name]) == (round(sum(sizes) / 3) if name == "control_size" else pairs)
        assert record(store, cell)["poison"] == defended["poison"]


def test_a_filters_numbers(tmp_path: Path, chosen: dict[str, np.ndarray]) -> None:
    found, store = matrix(["clip_filter"], options=["train.epochs=2"]), Store.create(tmp_path)
    execute(found, store)
    defended = record(store, next(c for c in found.cells if c.spec.defense.name == "clip_filter"))
    kept = round(defended["curves"][0]["safe_share"] * defended["data"]["train_pairs"])
    assert len(chosen["control_size"]) == kept < defended["data"]["train_pairs"]
    steps = {sum(curve["steps"] for curve in record(store, cell)["curves"]) for cell in beside(found, "clip_filter").values()}
    assert steps == {2 * (kept // 32)}
    again, _ = execute(found, store)
    assert again == {"cached": len(found.cells)}


def test_an_interrupted_control_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    found = matrix(["clip_filter"], options=["train.epochs=2"])
    whole, halted = Store.create(tmp_path / "whole"), Store.create(tmp_path / "halted")
    total = execute(found, whole)[1].steps
    with pytest.raises(KeyboardInterrupt):
        execute(found, halted, stop_after=total - 2)
    execute(found, halted)
    for cell in found.cells:
        assert record(whole, cell)["weights"] == record(halted, cell)["weights"]
    assert any((halted.run_dir(cell.key) / "run.json").exists() for cell in beside(found, "clip_filter").values())


def test_a_record_that_does_not_count_steps(tmp_path: Path) -> None:
    options = ["train.epochs=1"]
    without, store = matrix(["clip_filter"], controls=False, options=options), Store.create(tmp_path)
    execute(without, store)
    file = store.run_dir(next(c.key for c in without.cells if c.spec.defense.name == "clip_filter")) / "run.json"
    old = json.loads(file.read_text())
    old["curves"] = [{k: v for k, v in curve.items() if not k.startswith("clip_")} for curve in old["curves"]]
    file.write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"run\.json has no counts of CLIP-loss steps"):
        execute(matrix(["clip_filter"], options=options), store)
