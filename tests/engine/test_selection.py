"""Selecting pairs with another cell's model, from plan to record."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from bench.api import Scorer
from bench.defenses.clip_filter import CLIPFilter
from bench.errors import UserError
from bench.keys import run_key
from bench.matrix.expand import Cell, Matrix, with_dependencies
from bench.matrix.local import LocalExecutor
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models import pretrained

from .small import raw, small_matrix
from .training import Recorder, execute, without_times


def _cell(matrix: Matrix, defense: str, attack: str | None = "badnet") -> Cell:
    return next(c for c in matrix.cells if c.spec.defense.name == defense and getattr(c.spec.attack, "name", None) == attack)


def _record(store: Store, cell: Cell) -> dict[str, Any]:
    return raw(store.run_record(cell.key))


def _weights(store: Store, cell: Cell) -> dict[str, torch.Tensor]:
    return load_file(store.run_dir(cell.key) / "model.safetensors")


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the clean model."""
    root = tmp_path_factory.mktemp("floor")
    execute(small_matrix(attacks=["none"]), Store.create(root))
    return root


def _store(floor: Path, root: Path) -> Store:
    shutil.copytree(floor, root, dirs_exist_ok=True)
    return Store.create(root)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """The similarities that the clean model gave, for each selection; the more similar half is kept."""
    calls = []

    def judge(self: CLIPFilter, scorer: Scorer) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        calls.append(scorer.similarities())
        return -calls[-1], calls[-1] >= np.median(calls[-1])

    monkeypatch.setattr(CLIPFilter, "judge", judge)
    return calls


def test_cells_that_filters_share_are_trained_once_and_before_them() -> None:
    matrix = small_matrix(defenses=["deepknn", "spectral_signatures", "clip_filter", "fine_tuning"])
    cells = [(cell.spec.defense.name, cell.spec.attack is not None) for cell in matrix.cells]
    clean, poisoned = ("clip", False), ("clip", True)
    assert len(cells) == len(set(cells)) == 6
    for name in ("deepknn", "spectral_signatures", "fine_tuning"):
        assert cells.index(poisoned) < cells.index((name, True))
    assert cells.index(clean) < cells.index(("clip_filter", True))
    undefended = _cell(matrix, "clip").spec
    assert (_cell(matrix, "deepknn").guide, _cell(matrix, "deepknn").start) == (undefended, None)
    assert (_cell(matrix, "fine_tuning").guide, _cell(matrix, "fine_tuning").start) == (None, undefended)
    assert _cell(matrix, "clip_filter").guide == _cell(matrix, "clip", None).spec


def test_what_a_cell_needs_comes_before_it() -> None:
    """And so on for all that is needed, each cell once and none besides."""
    matrix = small_matrix(defenses=["deepknn", "clip_filter", "fine_tuning"], evaluators=["asr"], seeds=[0, 1])
    known = {cell.key: cell for cell in matrix.cells}
    for cell in matrix.cells:
        found = [each.key for each in with_dependencies(cell, known)]
        assert found[-1] == cell.key
        for place, key in enumerate(found):
            assert {run_key(spec) for spec in known[key].dependencies} <= {*found[:place]}
        reached = {cell.key}
        while more := {run_key(spec) for key in reached for spec in known[key].dependencies} - reached:
            reached |= more
        assert sorted(found) == sorted(reached)


def test_a_filter_that_keeps_all_pairs_is_plain_clip(floor: Path, tmp_path: Path) -> None:
    matrix, store = small_matrix("defense.threshold=-99", defenses=["clip", "clip_filter"]), _store(floor, tmp_path)
    execute(matrix, store)
    plain, filtered, clean = _cell(matrix, "clip"), _cell(matrix, "clip_filter"), _cell(matrix, "clip", None)
    assert _same(_weights(store, plain), _weights(store, filtered))
    timing, below = _record(store, filtered)["timing"], _record(store, clean)["timing"]
    assert timing["builds_on_seconds"] == pytest.approx(sum(below["stages"].values()))
    assert timing["stages"]["selection"] > 0
    assert below["builds_on_seconds"] == _record(store, plain)["timing"]["builds_on_seconds"] == 0
    (curve,) = _record(store, filtered)["curves"]
    poisons = _record(store, filtered)["poison"]["added"]
    assert (curve["safe_share"], curve["safe_poisons"], curve["safe_poison_recall"]) == (1, poisons, 1)


def test_an_interrupted_filter_selects_once_and_ends_with_the_same_numbers(
    floor: Path, tmp_path: Path, seen: list[NDArray[np.float32]]
) -> None:
    matrix = small_matrix(defenses=["clip_filter"])
    cell, whole, store = _cell(matrix, "clip_filter"), _store(floor, tmp_path / "whole"), _store(floor, tmp_path / "parts")
    _, recorder = execute(matrix, whole)
    (similarities,) = seen
    assert "selecting pairs" in recorder.stages
    record = _record(whole, cell)
    assert record["curves"][0]["safe_share"] == np.mean(similarities >= np.median(similarities))
    assert record["curves"][0]["pairs"] == 128, "full batches of the 130 that are kept"

    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store, stop_after=1)
    execute(matrix, store)
    assert len(seen) == 2, "it selected again after the interruption"
    assert np.array_equal(seen[1], similarities)
    assert _same(_weights(whole, cell), _weights(store, cell))
    assert without_times(_record(store, cell)["curves"]) == without_times(record["curves"])


def test_a_selection_can_be_stopped(floor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, store = small_matrix(defenses=["clip_filter"]), _store(floor, tmp_path)
    recorder = Recorder()
    runtime = Runtime(torch.device("cpu"), recorder, lambda: "selecting pairs" in recorder.stages)
    monkeypatch.setattr(CLIPFilter, "loss", lambda *_: pytest.fail("it went on to train"))
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor(matrix, store, runtime, recorder, False).run()
    assert not (store.run_dir(_cell(matrix, "clip_filter").key) / "checkpoint.pt").exists()


def test_a_file_of_weights_is_a_clean_model(floor: Path, tmp_path: Path, seen: list[NDArray[np.float32]]) -> None:
    own, store = small_matrix(defenses=["clip_filter"]), _store(floor, tmp_path / "results")
    execute(own, store)
    weights = store.run_dir(_cell(own, "clip", None).key) / "model.safetensors"
    files = [weights, Path(shutil.copy(weights, tmp_path / "elsewhere.safetensors"))]
    given = [small_matrix(f"defense.clip_filter.model=scenes-small:{file}", defenses=["clip_filter"]) for file in files]
    cells = [_cell(matrix, "clip_filter") for matrix in given]
    assert cells[0].key == cells[1].key != _cell(own, "clip_filter").key
    assert cells[0].dependencies == []
    assert str(tmp_path) not in cells[0].spec.model_dump_json()
    execute(given[1], store)
    assert np.array_equal(seen[0], seen[1])
    timing = _record(store, cells[1])["timing"]
    assert (timing["builds_on_seconds"], _record(store, cells[1])["spec"]["defense"]["builds_on"]) == (0, None)


def test_other_bytes_are_another_model(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    names = []
    for text in ("one", "two", "one"):
        file.write_text(text)
        names.append(pretrained.identified(f"ViT-B-32:{file}"))
    assert names[0] == names[2] != names[1]
    assert pretrained.identified("ViT-B-32:openai") == "ViT-B-32:openai"
    assert pretrained.identified(names[0]) == names[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-32", "no file ''"),
        ("ViT-B-32:opnai", "did you mean 'openai'"),
        ("ViT-B-23:openai", "unknown model; did you mean 'ViT-B-32'"),
        ("scenes-small:/no/such/file", "no file '/no/such/file'"),
    ],
)
def test_no_such_model(name: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        small_matrix(f"defense.clip_filter.model={name}", defenses=["clip_filter"])
    assert words in str(refused.value)


def test_a_model_of_another_size_is_shown_resized_images() -> None:
    encoder, tokenize = pretrained.load("small-64:", "fp32", torch.device("cpu"))
    encoder.eval()
    images = torch.rand(2, 3, 32, 32)
    larger = torch.nn.functional.interpolate(images, 64, mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        assert torch.equal(encoder.encode_image(images), encoder.encode_image(larger))
    assert tokenize(["a dog"]).shape[0] == 1
