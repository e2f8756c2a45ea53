"""Half precision, activation checkpointing, deterministic algorithms, and names of devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from bench import plugins
from bench.errors import UserError
from bench.interface.precision import resolve
from bench.jobs.slots import JobSlots
from bench.matrix.cell import prepare
from bench.matrix.device import device_of, emulates_bf16
from bench.matrix.expand import Matrix, MatrixRequest, expand
from bench.matrix.local import LocalExecutor
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models import factory
from bench.models.recompute import checkpoint_activations
from bench.training.determinism import deterministic

from .small import SMALL, raw, small_matrix
from .training import Recorder, execute, without_times

CPU = torch.device("cpu")
VIT = "scenes-vit-8"


def _in(precision: str, model: str | None = None) -> Matrix:
    plugins.load()
    return expand(MatrixRequest("scenes", ["none"], ["clip"], ["zero_shot"], model=model, precision=precision, options=SMALL))


def _weights(matrix: Matrix, store: Store) -> bytes:
    return (store.run_dir(matrix.cells[0].key) / "model.safetensors").read_bytes()


def _losses(matrix: Matrix, store: Store) -> list[float]:
    return [curve["loss"] for curve in raw(store.run_record(matrix.cells[0].key))["curves"]]


def test_half_precision_with_scaled_gradients_trains_as_single(tmp_path: Path) -> None:
    stores = {}
    for precision in ("fp32", "fp16"):
        matrix, stores[precision] = _in(precision, VIT), Store.create(tmp_path / precision)
        assert execute(matrix, stores[precision])[0] == {"done": 1}
    half, single = (_losses(_in(precision, VIT), stores[precision]) for precision in ("fp16", "fp32"))
    assert half != single
    assert half == pytest.approx(single, rel=2e-2)


def test_half_precision_goes_on_with_the_scale_that_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale doubles after every second step here, so that a run which forgot it would round otherwise."""
    grown = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, enabled: grown(device, 2.0**18, growth_interval=2, enabled=enabled)
    )
    matrix = _in("fp16", VIT)
    whole, cut = Store.create(tmp_path / "whole"), Store.create(tmp_path / "cut")
    execute(matrix, whole)
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, cut, stop_after=3)
    state = torch.load(cut.run_dir(matrix.cells[0].key) / "checkpoint.pt", weights_only=True)["scaler"]
    assert state["scale"] != 2.0**18 or state["_growth_tracker"] > 0
    execute(matrix, cut)
    assert _weights(matrix, cut) == _weights(matrix, whole)


def test_a_step_whose_gradients_overflow_is_left_out(tmp_path: Path) -> None:
    trainer = _trainer(_in("fp16", VIT), tmp_path)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    before = {name: value.clone() for name, value in trainer.encoder.state_dict().items()}
    step = trainer.steps(list(trainer.defense.phases(0)), 0)
    next(step)
    assert all(torch.equal(value, before[name]) for name, value in trainer.encoder.state_dict().items())
    assert trainer.scaler.get_scale() == pytest.approx(0.5e38)


def _trainer(matrix: Matrix, folder: Path, **runtime: Any) -> Any:
    how = Runtime(CPU, Recorder(), lambda: False, **runtime)
    return prepare(matrix.cells[0], matrix.workspace, Store.create(folder), how)[0]


@pytest.mark.parametrize("model", [VIT, "scenes-small"])
def test_activation_checkpointing_changes_no_number(model: str, tmp_path: Path) -> None:
    matrix = small_matrix(attacks=["none"], model=model)
    found = []
    for name, on in (("without", False), ("with", True)):
        store, recorder = Store.create(tmp_path / name), Recorder()
        runtime = Runtime(CPU, recorder, lambda: False, grad_checkpointing=on)
        assert dict(LocalExecutor(matrix, store, runtime, recorder, False).run()) == {"done": 1}
        record = raw(store.run_record(matrix.cells[0].key))
        found.append((_weights(matrix, store), without_times(record["curves"]), record["spec"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(("model", "passes"), [(VIT, 2), ("scenes-small", 1)])
def test_blocks_are_computed_a_second_time_where_there_is_no_batch_norm(model: str, passes: int) -> None:
    network: Any = factory.create(model, 0).train()
    checkpoint_activations(network)
    seen = {"image": 0, "text": 0}

    def counts(part: str, module: torch.nn.Module) -> None:
        module.register_forward_pre_hook(lambda *_: seen.__setitem__(part, seen[part] + 1))

    image = network.visual.trunk.layer1[0] if hasattr(network.visual, "trunk") else network.visual.transformer.resblocks[0]
    counts("image", image)
    counts("text", (network.text if hasattr(network, "text") else network).transformer.resblocks[0])
    side = factory.image_size(model)
    images, tokens = torch.rand(2, 3, side, side), factory.tokenizer(model)(["a", "b"])
    (network.encode_image(images).sum() + network.encode_text(tokens).sum()).backward()
    assert seen == {"image": passes, "text": 2}


def test_deterministic_algorithms_are_on_within_and_as_before_after() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "--device gpu: expected auto, cpu, cuda, cuda:N"),
        ("cuda:x", "--device cuda:x: expected auto"),
        ("cuda:2", "--device cuda:2: there are 2 GPUs here, numbered from 0"),
        ("mps", "--device mps: PyTorch finds no Apple GPU here"),
    ],
)
def test_a_device_that_is_not_there_is_said_in_a_sentence(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _two_gpus(monkeypatch)
    with pytest.raises(UserError, match=words):
        device_of(name)


def test_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--device cuda:1: PyTorch finds no usable GPU here"):
        device_of("cuda:1")
    _two_gpus(monkeypatch)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")
    assert device_of("cpu") == CPU
    assert JobSlots.of("2", device_of("cuda:1"), 4).gpus == ("1",)
    assert JobSlots.of("2", device_of("cuda"), 4).gpus == ("0", "1")
    assert JobSlots.of(None, device_of("cuda:1"), 4).count == 1
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="under torchrun each process has its own GPU"):
        device_of("cuda:1")


def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"architecture": "x86_64"}, True),
        ({"architecture": "x86_64", "avx512_bf16": True}, False),
        ({"architecture": "x86_64", "amx_bf16": True}, False),
        ({"architecture": "arm64"}, False),
        ({}, False),
    ],
)
def test_only_an_x86_cpu_without_the_instructions_emulates_bf16(
    known: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert emulates_bf16(CPU) == expected
    assert not emulates_bf16(torch.device("cuda"))


@pytest.mark.parametrize(("precision", "count"), [("bf16", 1), ("fp32", 0)])
def test_the_faster_precision_is_named_once(
    precision: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"}, raising=False)
    options = {"attack": "none", "defense": "clip", "evaluator": "zero_shot", "set": SMALL, "jobs": "1"}
    bench.run(**options, precision=precision, out=tmp_path)
    bench.run(**options, precision=precision, out=tmp_path)
    assert capfd.readouterr().out.count("has no bf16 instructions") == count


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        ("auto", (), "fp32"),
        ("auto", ("train.precision=bf16",), None),
        ("auto", ("train.epochs=2",), "fp32"),
        ("bf16", (), "bf16"),
    ],
)
def test_auto_is_fp32_where_bf16_is_emulated(
    given: str, settings: tuple[str, ...], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"}, raising=False)
    assert resolve(given, settings, CPU) == expected
    native = {"architecture": "x86_64", "amx_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: native, raising=False)
    assert resolve(given, settings, CPU) == (None if given == "auto" else given)


@pytest.mark.parametrize(("known", "precision"), [({}, "fp32"), ({"amx_bf16": True}, "bf16")])
def test_the_file_that_repeats_a_run_names_the_precision(
    known: dict[str, Any], precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it repeats it on any machine."""
    capabilities = {"architecture": "x86_64", **known}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    bench.run(attack="none", defense="clip", evaluator="zero_shot", set=SMALL, jobs="1", out=tmp_path, quiet=True)
    (file,) = (tmp_path / "requests").glob("*.toml")
    assert f'precision = "{precision}"' in file.read_text()
    (record,) = bench.load_results(tmp_path).run_key.unique()
    assert json.loads((tmp_path / "runs" / record / "run.json").read_text())["spec"]["train"]["precision"] == precision
