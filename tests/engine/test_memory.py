"""The least memory of a step, against a count by hand."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.data.poisoned import PoisonedPairs
from bench.errors import UserError
from bench.matrix import cell, estimate
from bench.matrix.estimate import lacking_memory
from bench.matrix.store import Store
from bench.models.encoder import ClipEncoder
from bench.training import memory

from .small import raw, small_matrix
from .training import execute

SIDE, WIDTH, EMBEDDING, CONTEXT = 4, 20_000, 2, 3


class Tower(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, EMBEDDING), nn.BatchNorm1d(EMBEDDING))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layers(values.flatten(1).float())


class Model(nn.Module):
    context_length = CONTEXT

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.text = Tower(3 * SIDE**2), Tower(CONTEXT)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.text(tokens)


@pytest.fixture
def encoder() -> ClipEncoder:
    return ClipEncoder(Model(), "fp32", torch.device("cpu"))


@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_a_step_keeps_the_hidden_layer_of_each_pair_and_three_copies_of_the_weights(encoder: ClipEncoder, batch: int) -> None:
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    hidden = 2 * WIDTH * 4  # what the rectifier gives, which the layer after it keeps too
    assert memory.step_bytes(encoder, SIDE, batch) == pytest.approx(batch * hidden + 3 * 4 * weights, rel=0.01)


def test_looking_changes_nothing(encoder: ClipEncoder) -> None:
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    memory.step_bytes(encoder, SIDE, 8)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(("free", "enough"), [(1e9, False), (2e9, True)])
def test_refused_before_it_stalls_the_machine(
    encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch, free: float, enough: bool
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    if enough:
        memory.require_memory(encoder, SIDE, 10_000)
        return
    with pytest.raises(MemoryError, match=r"^a step on 10000 pairs needs at least 1\.6 GB of memory, and 1\.0 GB are free$"):
        memory.require_memory(encoder, SIDE, 10_000)


def test_no_more_is_free_than_the_machine_has() -> None:
    free = memory.free_bytes(torch.device("cpu"))
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") or free == math.inf


@pytest.mark.parametrize(("limit", "left"), [("1000", 1000 - 700 + 200), ("max", math.inf)])
def test_the_limit_of_a_control_group(tmp_path: Path, limit: str, left: float) -> None:
    for name, text in {"memory.max": limit, "memory.current": "700", "memory.stat": "anon 400\ninactive_file 200"}.items():
        (tmp_path / name).write_text(text + "\n")
    assert memory._free_cgroup_bytes(tmp_path) == left
    assert memory._free_cgroup_bytes(tmp_path / "none") == math.inf


def test_a_cell_for_which_there_is_no_memory_fails_before_it_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store, matrix = Store.create(tmp_path / "out"), small_matrix()
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1e6)
    assert execute(matrix, store)[0] == {"failed": 1}
    failure = raw(store.failure(matrix.cells[0].key))
    assert re.match(
        r"MemoryError: a step on \d+ pairs needs .* 0\.0 GB are free \(out of memory: --set train", failure["error"]
    )
    (problem,) = lacking_memory(matrix, [cell.spec for cell in matrix.cells], torch.device("cpu"))
    assert "0.0 GB are free; --set train.batch_size=..., a smaller --model" in problem
    assert problem.endswith("--precision bf16 or --grad-checkpointing needs less")


@pytest.mark.parametrize(("limit", "expected"), [(None, False), ("", False), ("3.0", False), ("3.1", True), ("80", True)])
def test_images_go_to_a_gpu_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: bool) -> None:
    if limit is not None:
        monkeypatch.setenv("BENCH_GPU_PIXELS", limit)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 4e9)
    assert memory.on_gpu(1_000_000, 32, torch.device("cuda")) is expected
    assert not memory.on_gpu(1_000_000, 32, torch.device("cpu"))


@pytest.mark.parametrize("limit", ["all", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("BENCH_GPU_PIXELS", limit)
    with pytest.raises(UserError, match=rf"^BENCH_GPU_PIXELS={limit}: expected the GB of a GPU"):
        memory.on_gpu(10, 32, torch.device("cpu"))


def test_images_that_fit_in_the_limit_and_not_in_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_GPU_PIXELS", "80")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2e9)
    with pytest.raises(MemoryError, match=r"^BENCH_GPU_PIXELS=80: the images take 3\.1 GB, and 2\.0 GB of the GPU are free$"):
        memory.on_gpu(1_000_000, 32, torch.device("cuda"))


def test_a_training_from_copied_images_has_the_same_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matrix, copied = small_matrix(), []
    folders = tmp_path / "host", tmp_path / "device"
    execute(matrix, Store.create(folders[0]))
    copy_to = PoisonedPairs.copy_to
    monkeypatch.setattr(PoisonedPairs, "copy_to", lambda pairs, device: copied.append(copy_to(pairs, device)))
    monkeypatch.setattr(cell, "on_gpu", lambda images, side, device: True)
    execute(matrix, Store.create(folders[1]))
    assert len(copied) == 1
    one, other = ((folder / "runs" / matrix.cells[0].key / "model.safetensors").read_bytes() for folder in folders)
    assert one == other


@pytest.mark.parametrize(("free", "sizes"), [(1e12, [8, 16, 32, 64]), (0, [8])])
def test_a_dry_run_measures_no_batch_that_memory_cannot_hold(
    monkeypatch: pytest.MonkeyPatch, free: float, sizes: list[int]
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(estimate, "free_bytes", lambda device: free)
    monkeypatch.setattr(estimate, "_step_seconds", lambda encoder, optimizer, model, size: tried.append(size) or 0.01)
    matrix = small_matrix()
    assert estimate.training_seconds(matrix, [matrix.cells[0].spec], None, torch.device("cpu")) > 0
    assert tried == sizes
