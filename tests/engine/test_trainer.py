import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.api import Batch, Defense, Encoder, Phase
from bench.data import captions
from bench.defenses.clip import CLIP
from bench.matrix.expand import Matrix
from bench.matrix.store import Store
from bench.registry import register_defense
from bench.training import views
from bench.training.schedule import warmup_cosine

from .small import raw, small_matrix
from .training import execute, register_restless, without_times

STEPS_AN_EPOCH = 4 + 2  # 259 pairs in batches of 64, then 100 to 164 of them


@pytest.fixture
def matrix(registries: None) -> Matrix:
    register_restless()
    return small_matrix("train.epochs=2", defenses=["restless"])


def _result(matrix: Matrix, store: Store) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    (cell,) = matrix.cells
    folder = store.run_dir(cell.key)
    assert sorted(path.name for path in folder.iterdir()) == ["evals", "model.safetensors", "poison.json", "run.json"]
    return load_file(folder / "model.safetensors"), without_times(raw(store.run_record(cell.key))["curves"])


def _same(one: tuple[dict[str, torch.Tensor], Any], other: tuple[dict[str, torch.Tensor], Any]) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.fixture
def uninterrupted(matrix: Matrix, tmp_path: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    store = Store.create(tmp_path / "uninterrupted")
    outcomes, recorder = execute(matrix, store)
    assert outcomes == {"done": 1}
    assert recorder.steps in {2 * STEPS_AN_EPOCH - 1, 2 * STEPS_AN_EPOCH}
    return _result(matrix, store)


def test_interrupted_anywhere_ends_with_the_same_numbers(matrix: Matrix, uninterrupted: Any, tmp_path: Path) -> None:
    steps = int(sum(curve["steps"] for curve in uninterrupted[1]))
    first_epoch = int(uninterrupted[1][0]["steps"])
    assert uninterrupted[1][-1]["defense_steps"] == steps
    for stop in (1, 4, first_epoch, first_epoch + 1, first_epoch + 5, steps):  # within and between phases and epochs
        store = Store.create(tmp_path / f"stop{stop}")
        with pytest.raises(KeyboardInterrupt):
            execute(matrix, store, stop_after=stop)
        folder = store.run_dir(matrix.cells[0].key)
        assert (folder / "checkpoint.pt").exists()
        assert not (folder / "run.json").exists()
        outcomes, recorder = execute(matrix, store)
        assert outcomes == {"done": 1}
        assert recorder.steps == steps - stop
        _same(_result(matrix, store), uninterrupted)


def test_interrupted_again_and_again(matrix: Matrix, uninterrupted: Any, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "often")
    for _ in range(20):
        try:
            execute(matrix, store, stop_after=3)
            break
        except KeyboardInterrupt:
            continue
    _same(_result(matrix, store), uninterrupted)


class Crash(Exception):
    pass


def test_a_crash_costs_what_was_done_since_the_last_checkpoint(matrix: Matrix, uninterrupted: Any, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "crash")

    def crash(step: int) -> None:
        if step == 8:
            raise Crash

    outcomes, _ = execute(matrix, store, heard=crash, checkpoint_seconds=0)
    assert outcomes == {"failed": 1}
    outcomes, recorder = execute(matrix, store, retry_failed=True)
    assert outcomes == {"done": 1}
    assert recorder.steps == sum(curve["steps"] for curve in uninterrupted[1]) - 7
    _same(_result(matrix, store), uninterrupted)


def _damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"empty": b"", "noise": b"noise", "cut": whole[:middle], "flipped": flipped}[how])


@pytest.mark.parametrize("how", ["empty", "noise", "cut", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    matrix: Matrix, uninterrupted: Any, tmp_path: Path, how: str
) -> None:
    store = Store.create(tmp_path / "damaged")
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store, stop_after=5, checkpoint_seconds=0)
    _damage(store.run_dir(matrix.cells[0].key) / "checkpoint.pt", how)
    _, recorder = execute(matrix, store)
    assert "checkpoint.pt cannot be read: the previous one is used" in recorder.said.getvalue()
    assert recorder.steps == sum(curve["steps"] for curve in uninterrupted[1]) - 4
    _same(_result(matrix, store), uninterrupted)


def test_two_damaged_checkpoints_start_anew(matrix: Matrix, uninterrupted: Any, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "damaged")
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store, stop_after=5, checkpoint_seconds=0)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        _damage(store.run_dir(matrix.cells[0].key) / name, "cut")
    _, recorder = execute(matrix, store)
    assert "checkpoint.pt and checkpoint.previous.pt cannot be read: training starts over" in recorder.said.getvalue()
    _same(_result(matrix, store), uninterrupted)


def test_the_same_cell_twice_has_the_same_numbers_and_another_seed_others(
    matrix: Matrix, uninterrupted: Any, tmp_path: Path
) -> None:
    store = Store.create(tmp_path / "again")
    torch.manual_seed(99)
    np.random.seed(99)
    execute(matrix, store)
    _same(_result(matrix, store), uninterrupted)
    other = small_matrix("train.epochs=2", defenses=["restless"], seeds=[1])
    store = Store.create(tmp_path / "other")
    execute(other, store)
    assert _result(other, store)[1][0]["loss"] != uninterrupted[1][0]["loss"]


def _register_witness(name: str, seen: dict[str, list[tuple[Any, ...]]]) -> None:
    @register_defense(name)
    class Witness(Defense):
        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            images = encoder.encode_image(batch.images[0])
            texts = encoder.encode_text(batch.texts[0])
            seen.setdefault(name, []).append((batch.indices, batch.images[0], batch.texts[0], images.detach()))
            return (encoder.logit_scale * images @ texts.T).logsumexp(dim=1).mean() * (1 if name == "one" else 2)


def test_defenses_are_compared_on_the_same_poison_order_views_and_weights(registries: None, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[Any, ...]]] = {}
    for name in ("one", "two"):
        _register_witness(name, seen)
    matrix = small_matrix("train.epochs=2", defenses=["one", "two"])
    store = Store.create(tmp_path / "out")
    assert execute(matrix, store)[0] == {"done": 2}
    assert len(seen["one"]) == len(seen["two"]) == 8
    for step, (one, two) in enumerate(zip(seen["one"], seen["two"], strict=True)):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))
        assert step or torch.equal(one[3], two[3])
    assert not torch.equal(seen["one"][-1][3], seen["two"][-1][3])
    assert not torch.equal(seen["one"][0][0], seen["one"][4][0])
    manifests = [(store.run_dir(cell.key) / "poison.json").read_bytes() for cell in matrix.cells]
    assert manifests[0] == manifests[1]


def test_the_curve_says_what_happened(registries: None, tmp_path: Path) -> None:
    rates: list[float] = []
    register_restless()
    matrix = small_matrix("train.epochs=2", "train.lr=0.003", "train.warmup_epochs=0.75", attacks=["none"])
    store = Store.create(tmp_path / "out")
    execute(matrix, store, heard=rates.append)
    curves = raw(store.run_record(matrix.cells[0].key))["curves"]
    assert [(curve["epoch"], curve["steps"], curve["pairs"]) for curve in curves] == [(0, 4, 256), (1, 4, 256)]
    for curve in curves:
        assert curve["lr"] == pytest.approx(0.003 * warmup_cosine(curve["epoch"] + 0.875, 2, 0.75))
        assert 0 < curve["loss"] < 2 * math.log(64)
        assert curve["pairs_per_second"] == pytest.approx(256 / curve["seconds"])
    assert curves[1]["loss"] < curves[0]["loss"]


def test_the_learning_rate_of_a_phase(registries: None, tmp_path: Path) -> None:
    phases = (Phase(), Phase(lr_share=0.25), Phase(lr=2e-4, lr_share=0.25))

    @register_defense("shares")
    class Shares(CLIP):
        def phases(self, epoch: int) -> tuple[Phase]:
            return (phases[epoch],)

    matrix = small_matrix("train.epochs=3", "train.lr=0.003", attacks=["none"], defenses=["shares"])
    store = Store.create(tmp_path / "out")
    execute(matrix, store)
    scheduled = [0.003 * warmup_cosine(epoch + 0.875, 3, 0.5) for epoch in range(3)]
    rates = [curve["lr"] for curve in raw(store.run_record(matrix.cells[0].key))["curves"]]
    assert rates == pytest.approx([scheduled[0], 0.25 * scheduled[1], 2e-4])


def test_similarities_are_looked_at_once_after_the_first_epoch(registries: None, tmp_path: Path) -> None:
    matrix = small_matrix("train.epochs=2")
    store = Store.create(tmp_path / "out")
    execute(matrix, store)
    first, second = raw(store.run_record(matrix.cells[0].key))["curves"]
    folder = store.run_dir(matrix.cells[0].key)
    poisons = len(json.loads((folder / "poison.json").read_text())["poisons"])
    assert (sum(first["similarity_clean"]), sum(first["similarity_poison"])) == (256, poisons)
    assert not {name for name in second if name.startswith("similarity")}


@pytest.mark.parametrize("colour", [0.0, 0.5])
def test_strong_views_are_made_with_the_options(
    registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: float
) -> None:
    asked: set[tuple[float, float]] = set()

    def strong(images: torch.Tensor, smallest: float, colour: float, *_: Any) -> torch.Tensor:
        asked.add((smallest, colour))
        return images

    monkeypatch.setattr(views, "simclr", strong)
    options = ("train.strong_crop=0.3", f"train.strong_colour={colour}")
    execute(small_matrix(*options, defenses=["roclip"]), Store.create(tmp_path / "out"))
    assert asked == {(0.3, colour)}


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_captions_are_changed_with_the_option(
    registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alpha: float
) -> None:
    asked: set[float] = set()

    def augment(caption: list[str], alpha: float, *_: Any) -> list[str]:
        asked.add(alpha)
        return caption

    monkeypatch.setattr(captions, "augment", augment)
    execute(small_matrix(f"train.eda_alpha={alpha}", defenses=["roclip"]), Store.create(tmp_path / "out"))
    assert asked == {alpha}


def _register_doomed(blessed: Path) -> None:
    @register_defense("doomed")
    class Doomed(Defense):
        """Its loss is no number, until a file says otherwise."""

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            images, texts = encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0])
            loss = (encoder.logit_scale * images @ texts.T).logsumexp(dim=1).mean()
            return loss if blessed.exists() else loss * math.nan


def test_a_loss_that_is_no_number_fails_its_cell_alone(registries: None, tmp_path: Path) -> None:
    _register_doomed(tmp_path / "blessed")
    matrix = small_matrix(defenses=["doomed", "clip"])
    store = Store.create(tmp_path / "out")
    outcomes, recorder = execute(matrix, store)
    assert outcomes == {"failed": 1, "done": 1}
    assert "FAILED train: TrainingDiverged: the loss became nan in epoch 0, step 0" in recorder.said.getvalue()
    doomed = next(cell.key for cell in matrix.cells if cell.spec.defense.name == "doomed")
    failure = raw(store.failure(doomed))
    assert failure["stage"] == "train"
    assert failure["error"].startswith("TrainingDiverged: the loss became nan")
    assert "Traceback (most recent call last)" in failure["traceback"]
    assert store.run_record(doomed) is None

    assert execute(matrix, store)[0] == {"failed": 1, "cached": 1}
    assert raw(store.failure(doomed)) == failure
    assert execute(matrix, store, retry_failed=True)[0] == {"failed": 1, "cached": 1}
    (tmp_path / "blessed").touch()
    outcomes, recorder = execute(matrix, store, retry_failed=True)
    assert outcomes == {"done": 1, "cached": 1}
    assert store.failure(doomed) is None
    assert execute(matrix, store)[0] == {"cached": 2}
