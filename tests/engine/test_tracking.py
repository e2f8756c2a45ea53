import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.matrix import tracking
from bench.matrix.store import Store

from .small import raw, small_matrix
from .training import execute


def test_events_are_the_curves_of_the_record_also_of_a_run_that_was_stopped(registries: None, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    matrix, store = small_matrix("train.epochs=3", attacks=["none"]), Store.create(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store, stop_after=6, track="tensorboard")
    execute(matrix, store, track="tensorboard")
    (folder,) = (store.root / "track" / "tensorboard").iterdir()
    assert matrix.cells[0].key in folder.name
    read = events.EventAccumulator(str(folder))
    read.Reload()
    curves = raw(store.run_record(matrix.cells[0].key))["curves"]
    numbers = {name for name, value in curves[0].items() if not isinstance(value, list)} - {"epoch"}
    assert set(read.Tags()["scalars"]) == numbers >= {"loss", "lr", "logit_scale"}
    for name in numbers:
        assert [event.step for event in read.Scalars(name)] == [0, 1, 2]
        assert [event.value for event in read.Scalars(name)] == pytest.approx([curve[name] for curve in curves], rel=1e-6)


def test_an_epoch_that_is_trained_again_counts_once(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    spec = small_matrix(attacks=["none"]).cells[0].spec
    for epochs in ([0, 1], [1, 2]):
        log = tracking._TensorBoard(tmp_path, spec)
        for epoch in epochs:
            log.epoch(epoch, {"loss": float(epoch)})
        log.close()
    read = events.EventAccumulator(str(next(tmp_path.iterdir())))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [0, 1, 2]


def test_wandb_stays_offline(registries: None, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    matrix, store = small_matrix(attacks=["none"]), Store.create(tmp_path / "out")
    execute(matrix, store, track="wandb")
    assert list((store.root / "track" / "wandb").rglob(f"offline-run-*-{matrix.cells[0].key}"))


def test_a_library_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"--track tensorboard: tensorboard is not installed; pip install .*\[track\]"):
        tracking.require("tensorboard")
