"""Every defense on a GPU: the losses of the CPU, an epoch, and resuming bit for bit under deterministic algorithms."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import plugins
from bench.interface.toml import toml_value
from bench.matrix.expand import Matrix, MatrixRequest, controls, expand
from bench.matrix.local import LocalExecutor
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.registry import defenses
from bench.testing.small import test_params as params_in_tests
from bench.training.checkpoint import Checkpoint
from bench.training.determinism import deterministic
from bench.training.memory import free_bytes, require_memory
from tests.engine.small import SMALL, raw
from tests.engine.training import Recorder, without_times

plugins.load()
CPU = torch.device("cpu")
DEFENSES = [entry.plugin.name for entry in defenses if entry not in controls()]
FRESH = [name for name in DEFENSES if defenses[name].plugin.starts_from() is None]
CLOSE = 2e-2
"""Of losses in float32: convolutions on a GPU are in TF32 unless told otherwise."""


@functools.cache
def _matrix(defense: str, precision: str = "fp32") -> Matrix:
    params = params_in_tests(defenses[defense])
    options = [f"defense.{defense}.{name}={toml_value(value)}" for name, value in params.items()]
    request = MatrixRequest("scenes", ["badnet"], [defense], ["zero_shot"], precision=precision, options=(*SMALL, *options))
    return expand(request)


def _run(matrix: Matrix, store: Store, device: torch.device, stop_after: int | None = None, **how: Any) -> dict[str, int]:
    recorder = Recorder()
    runtime = Runtime(device, recorder, lambda: stop_after is not None and recorder.steps >= stop_after, **how)
    return dict(LocalExecutor(matrix, store, runtime, recorder, False).run())


def _first_loss(matrix: Matrix, store: Store, device: torch.device) -> float:
    """The loss of the first step of the last cell."""
    with pytest.raises(KeyboardInterrupt):
        _run(matrix, store, device, stop_after=1)
    found = Checkpoint.load(store.run_dir(matrix.cells[-1].key) / "checkpoint.pt")
    assert found
    assert found.partial["steps"] == 1
    return found.partial["loss"]


@pytest.mark.parametrize("name", FRESH)
def test_the_first_step_has_the_loss_that_it_has_on_a_cpu(name: str, gpu: torch.device, tmp_path: Path) -> None:
    matrix = _matrix(name).only(_matrix(name).cells[-1:])
    if len(matrix.cells) > 1:
        pytest.skip(f"{name} looks at its pairs through a model that is trained first")
    losses = [_first_loss(matrix, Store.create(tmp_path / device.type), device) for device in (CPU, gpu)]
    assert losses[1] == pytest.approx(losses[0], rel=CLOSE)


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_trains_and_is_measured(name: str, gpu: torch.device, tmp_path: Path) -> None:
    matrix, store = _matrix(name), Store.create(tmp_path)
    assert _run(matrix, store, gpu) == {"done": len(matrix.cells)}
    record = raw(store.run_record(matrix.cells[-1].key))
    assert record["provenance"]["device"] == "cuda"
    assert all(torch.isfinite(torch.tensor(curve["loss"])) for curve in record["curves"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_as_single(precision: str, gpu: torch.device, tmp_path: Path) -> None:
    losses = []
    for each in ("fp32", precision):
        matrix, store = _matrix("clip", each), Store.create(tmp_path / each)
        assert _run(matrix, store, gpu) == {"done": len(matrix.cells)}
        losses.append(raw(store.run_record(matrix.cells[-1].key))["curves"][-1]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=5e-2)


def test_images_that_live_on_the_gpu_give_the_same_bits(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, weights = _matrix("safeclip"), []
    for limit in ("0", "1"):
        store = Store.create(tmp_path / limit)
        monkeypatch.setenv("BENCH_GPU_PIXELS", limit)
        with deterministic(True):
            assert _run(matrix, store, gpu) == {"done": len(matrix.cells)}
        weights.append((store.run_dir(matrix.cells[-1].key) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", DEFENSES)
def test_a_run_that_was_stopped_ends_with_the_same_bits(name: str, gpu: torch.device, tmp_path: Path) -> None:
    matrix = _matrix(name)
    whole, cut = Store.create(tmp_path / "whole"), Store.create(tmp_path / "cut")
    with deterministic(True):
        _run(matrix, whole, gpu)
        with pytest.raises(KeyboardInterrupt):
            _run(matrix, cut, gpu, stop_after=3)
        _run(matrix, cut, gpu)
    for cell in matrix.cells:
        weights = [(store.run_dir(cell.key) / "model.safetensors").read_bytes() for store in (whole, cut)]
        curves = [without_times(raw(store.run_record(cell.key))["curves"]) for store in (whole, cut)]
        assert weights[0] == weights[1], cell.title
        assert curves[0] == curves[1]


def test_too_little_memory_is_said_before_the_driver_does(gpu: torch.device) -> None:
    encoder = ClipEncoder(factory.create("scenes-small", 0), "fp32", gpu)
    assert 0 < free_bytes(gpu) <= torch.cuda.get_device_properties(gpu).total_memory
    require_memory(encoder, 32, 64)
    with pytest.raises(MemoryError, match=r"a step on 1000000000 pairs needs at least .* GB of memory, and .* GB are free"):
        require_memory(encoder, 32, 10**9)
