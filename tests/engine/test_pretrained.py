"""Cells that start from given weights: in their keys by the digest, the same for every cell of a matrix."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import keys
from bench.canonical import digest
from bench.errors import UserError
from bench.matrix.cell import write_untrained
from bench.matrix.store import Store
from bench.models import checkpoint, factory, pretrained

from .small import small_matrix
from .training import execute

MODEL = "scenes-small"


class Bomb:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return factory.create(MODEL, 77).state_dict()


@pytest.fixture
def file(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    torch.save(weights, tmp_path / "given.pt")
    return tmp_path / "given.pt"


def _sha(file: Path) -> str:
    return "sha256-" + hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_cell_from_scratch_has_the_key_and_the_seed_that_it_had() -> None:
    (cell,) = small_matrix(attacks=["none"]).cells
    spec = cell.spec.model_dump(mode="json", exclude_none=True)
    assert set(spec["model"]) == {"name", "config"}
    assert cell.key == digest(spec)
    assert keys.initial_parts(cell.spec) == ("initial", spec["model"], 0)


def test_every_cell_of_a_matrix_starts_from_them(file: Path) -> None:
    option = f"model.pretrained={file}"
    matrix = small_matrix(option, attacks=["badnet", "sig"], defenses=["clip", "cleanclip", "deepknn"], evaluators=["asr"])
    assert {cell.spec.model.weights for cell in matrix.cells} == {_sha(file)}
    needed = [spec for cell in matrix.cells for spec in cell.dependencies]
    assert {spec.model.weights for spec in needed} == {_sha(file)}
    scratch = small_matrix(attacks=["badnet", "sig"], defenses=["clip", "cleanclip", "deepknn"], evaluators=["asr"])
    assert not {cell.key for cell in matrix.cells} & {cell.key for cell in scratch.cells}


def test_the_key_follows_the_bytes_and_not_the_place(file: Path, tmp_path: Path) -> None:
    def key(place: Path) -> str:
        return small_matrix(f"model.pretrained={place}", attacks=["none"]).cells[0].key

    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "other.pt"
    copy.write_bytes(file.read_bytes())
    before = key(file)
    assert key(copy) == before
    torch.save({"state_dict": torch.load(file), "epoch": 3}, file)
    assert key(file) != before


def test_training_starts_from_the_weights_of_the_file(weights: dict[str, torch.Tensor], file: Path, tmp_path: Path) -> None:
    (cell,) = small_matrix(f"model.pretrained={file}", "train.lr=1e-12", "train.weight_decay=0", attacks=["none"]).cells
    store = Store.create(tmp_path / "out")
    write_untrained(cell.spec, store)
    found = load_file(store.run_dir(cell.key) / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_a_run_says_what_it_started_from(file: Path, tmp_path: Path) -> None:
    matrix = small_matrix(f"model.pretrained={file}", "train.lr=1e-9", "train.weight_decay=0", attacks=["none"])
    store = Store.create(tmp_path / "out")
    assert execute(matrix, store)[0] == {"done": 1}
    record = store.run_record(matrix.cells[0].key)
    assert record
    assert record.spec
    assert record.spec.model
    assert record.spec.model.weights == _sha(file)
    assert record.provenance.pretrained == "given.pt"
    trained = load_file(store.run_dir(matrix.cells[0].key) / "model.safetensors")
    start, fresh = torch.load(file), factory.create(MODEL, 0).state_dict()
    name = "positional_embedding"
    assert torch.allclose(trained[name], start[name], atol=1e-5)
    assert not torch.allclose(trained[name], fresh[name], atol=1e-5)


WRITTEN: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "a state dict": lambda state: state,
    "open_clip, one process": lambda state: {"epoch": 1, "name": "run", "state_dict": state, "optimizer": {"state": {}}},
    "CleanCLIP, several": lambda state: {"epoch": 1, "name": "a", "state_dict": {f"module.{k}": v for k, v in state.items()}},
    "under model": lambda state: {"model": state},
    "compiled, several": lambda state: {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "OpenAI's plain values": lambda state: {**state, "input_resolution": torch.tensor(32), "context_length": torch.tensor(77)},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_what_trainers_write_is_read(how: str, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(WRITTEN[how](weights), tmp_path / "w.pt")
    model = factory.create(MODEL, 0)
    checkpoint.load(model, tmp_path / "w.pt", MODEL)
    off = 1e-3 if how == "half" else 0
    assert all(torch.allclose(value, weights[name], rtol=off, atol=off) for name, value in model.state_dict().items())
    assert all(value.dtype == weights[name].dtype for name, value in model.state_dict().items())


def test_safetensors_are_read(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "w.safetensors")
    assert checkpoint.read(tmp_path / "w.safetensors").keys() == weights.keys()


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("how", ["zip", "plain"])
def test_a_pickle_that_calls_a_function_is_refused_and_calls_none(name: str, how: str, tmp_path: Path) -> None:
    bomb = {"state_dict": Bomb(tmp_path / "ran")}
    if how == "zip":
        torch.save(bomb, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(bomb))
    (cell,) = small_matrix(f"model.pretrained={tmp_path / name}", attacks=["none"]).cells
    with pytest.raises(UserError, match=re_of(tmp_path / name)):
        write_untrained(cell.spec, Store.create(tmp_path / "out"))
    assert not (tmp_path / "ran").exists()


def re_of(file: Path) -> str:
    return f"{file}: (contains pickled code|cannot be read as safetensors)"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 1}, "no weights found"),
        ({"state_dict": {"a": torch.ones(1), "b": "text"}}, "no weights found"),
        ([torch.ones(1)], "no weights found"),
        ({"logit_scale": torch.ones(())}, "not the weights of scenes-small ("),
    ],
)
def test_other_files_are_refused_in_a_sentence(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError) as refused:
        checkpoint.load(factory.create(MODEL, 0), tmp_path / "w.pt", MODEL)
    assert words in str(refused.value)


def test_weights_of_another_shape_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({**weights, "logit_scale": weights["logit_scale"], "visual.strange": torch.ones(2)}, tmp_path / "more.pt")
    name = next(key for key, value in weights.items() if value.ndim == 2)
    torch.save({**weights, name: torch.ones(1, 2)}, tmp_path / "shape.pt")
    model = factory.create(MODEL, 0)
    with pytest.raises(UserError, match=r"visual\.strange is unexpected"):
        checkpoint.load(model, tmp_path / "more.pt", MODEL)
    with pytest.raises(UserError, match=rf"{name} has the shape \(1, 2\)"):
        checkpoint.load(model, tmp_path / "shape.pt", MODEL)


def test_a_file_that_changed_since_is_refused(file: Path, tmp_path: Path) -> None:
    (cell,) = small_matrix(f"model.pretrained={file}", attacks=["none"]).cells
    file.write_bytes(b"other")
    with pytest.raises(UserError, match="the weights have changed since the command started"):
        write_untrained(cell.spec, Store.create(tmp_path / "out"))


def test_a_tag_is_the_digest_of_its_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "download_pretrained", lambda tag: str(file))
    assert pretrained.digest_of("ViT-B-32", "laion2b_s34b_b79k") == _sha(file)
    assert pretrained.name_of(_sha(file)) == "laion2b_s34b_b79k"
    assert pretrained.digest_of("ViT-B-32", str(file)) == _sha(file)


def _unreachable(tag: object) -> str:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("RN50", "openai", "--set model.pretrained: the weights openai .* another activation .*: use --model RN50-quickgelu"),
        ("ViT-B-32", "laion2b_s34b_b79k", r"cannot be downloaded \(OSError\); offline, give their file"),
        ("ViT-B-32", "laion2b_s34b_b79", "did you mean 'laion2b_s34b_b79k'"),
        ("ViT-B-16-SigLIP", "webli", "another mean and deviation"),
        ("scenes-small", "/no/such/file", "no file '/no/such/file'"),
    ],
)
def test_what_weights_cannot_be_started_from(model: str, weights: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.config import Settings

    monkeypatch.setattr(pretrained, "download_pretrained", _unreachable)
    with pytest.raises(UserError, match=words):
        _ = Settings("scenes", [f"model.pretrained={weights}"], model).model


def test_another_process_is_told_where_files_lie(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = pretrained.identified(f"{MODEL}:{file}")
    told = pretrained.known_files()
    monkeypatch.setattr(pretrained, "_files", {})
    with pytest.raises(UserError, match="give the file again"):
        pretrained.load(named, "fp32", torch.device("cpu"))
    pretrained.add_files(told)
    pretrained.load(named, "fp32", torch.device("cpu"))
