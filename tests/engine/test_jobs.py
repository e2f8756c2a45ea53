"""How many cells run side by side: settled without any process."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from bench import cores
from bench.api import Pairs
from bench.defenses.clip import CLIP
from bench.errors import UserError
from bench.jobs import memory, pool, slots
from bench.jobs.memory import CellMemory
from bench.jobs.progress import JobsProgress
from bench.jobs.slots import JobSlots
from bench.registry import register_defense

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MANY = 100


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and four GPUs; no thread count is given."""
    monkeypatch.setattr(slots, "available_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("BENCH_JOBS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("jobs", "threads", "cells", "expected"),
    [
        ("auto", None, MANY, JobSlots(8, 1)),
        (None, None, MANY, JobSlots(8, 1)),
        ("auto", None, 3, JobSlots(3, 1)),
        ("auto", None, 1, JobSlots(1, 1)),
        ("auto", None, 0, JobSlots(1, 1)),
        ("auto", "3", MANY, JobSlots(2, 3)),
        ("auto", "4,2", MANY, JobSlots(2, 4)),
        ("auto", "16", MANY, JobSlots(1, 16)),
        ("auto", "", MANY, JobSlots(8, 1)),
        ("5", None, MANY, JobSlots(5, 1)),
        ("5", "2", 3, JobSlots(3, 2)),
        ("1", None, MANY, JobSlots(1, None)),
        ("1", "2", MANY, JobSlots(1, None)),
    ],
)
def test_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, jobs: str | None, threads: str | None, cells: int, expected: JobSlots
) -> None:
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert JobSlots.of(jobs, CPU, cells) == expected


@pytest.mark.parametrize(
    ("jobs", "visible", "cells", "expected"),
    [
        ("auto", None, MANY, JobSlots(4, 2, ("0", "1", "2", "3"))),
        ("auto", None, 2, JobSlots(2, 4, ("0", "1", "2", "3"))),
        ("auto", None, 1, JobSlots()),
        ("6", None, MANY, JobSlots(6, 1, ("0", "1", "2", "3"))),
        ("2", "5,7", MANY, JobSlots(2, 4, ("5", "7"))),
        ("auto", "7", MANY, JobSlots()),
    ],
)
def test_on_gpus(monkeypatch: pytest.MonkeyPatch, jobs: str, visible: str | None, cells: int, expected: JobSlots) -> None:
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert JobSlots.of(jobs, CUDA, cells) == expected


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", " ", "²"])
def test_what_is_no_number_of_jobs(jobs: str) -> None:
    with pytest.raises(UserError, match=rf"^--jobs {jobs}: expected a positive integer or auto$"):
        JobSlots.of(jobs, CPU, MANY)


def test_the_environment_sets_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_JOBS", "2")
    assert JobSlots.of(None, CPU, MANY) == JobSlots(2, 1)
    assert JobSlots.of("3", CPU, MANY) == JobSlots(3, 1)


@pytest.mark.parametrize(("count", "given", "threads"), [(2, "", "4"), (16, "", "1"), (2, "3", "3")])
def test_cells_side_by_side_share_the_threads_that_load_images(
    count: int, given: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "available_cores", lambda: 8)
    monkeypatch.setenv(cores.LOAD_THREADS, given)
    assert pool._environment(0, JobSlots(count, 1))[cores.LOAD_THREADS] == threads


def test_the_environment_sets_the_threads_that_load_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.delenv(cores.LOAD_THREADS, raising=False)
    assert cores.load_threads() == 8
    monkeypatch.setenv(cores.LOAD_THREADS, "12")
    assert cores.load_threads() == 12
    for wrong in ("0", "-1", "many", "²"):
        monkeypatch.setenv(cores.LOAD_THREADS, wrong)
        with pytest.raises(UserError, match=f"^BENCH_LOAD_THREADS={wrong}: expected a positive integer$"):
            cores.load_threads()


def test_a_plugin_of_this_process_alone_stays_in_it(registries: None) -> None:
    register_defense("private")(type("Private", (CLIP,), {"__doc__": "Plain CLIP.", "__module__": __name__}))
    assert JobSlots.of("auto", CPU, MANY) == JobSlots(1, 1)
    assert JobSlots.of("auto", CUDA, MANY) == JobSlots()
    with pytest.raises(UserError, match=r"^--jobs 2: other processes do not know the defense 'private'; put it in a file"):
        JobSlots.of("2", CPU, MANY)


def test_within_torchrun_cells_are_not_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert JobSlots.of("auto", CPU, MANY) == JobSlots()
    with pytest.raises(UserError, match=r"^--jobs 2: under torchrun all processes train one cell together; omit --jobs$"):
        JobSlots.of("2", CPU, MANY)


def test_the_limit_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    for content, expected in (("250000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", None), ("", None)):
        file.write_text(content)
        assert cores._quota(file) == expected
    assert cores._quota(tmp_path / "none") is None


def test_what_is_said_of_a_share() -> None:
    assert str(JobSlots(3, 1)) == "3 cells in parallel, each on 1 CPU thread"
    assert str(JobSlots(2, 4, ("0", "1"))) == "2 cells in parallel, each on a GPU"
    assert str(JobSlots(1, 2)) == "one cell at a time, on 2 CPU threads"
    assert [each.leaves_cores_idle for each in (JobSlots(1, 1), JobSlots(2, 3), JobSlots(1, 8), JobSlots())] == [
        True,
        True,
        False,
        False,
    ]


def test_a_cell_alone_is_held_to_its_threads() -> None:
    before = torch.get_num_threads()
    with JobSlots(1, before + 1).limit_threads():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with JobSlots().limit_threads():
        assert torch.get_num_threads() == before


def test_memory_is_added_up_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that hold 3 of 10 and 0 of 10 bytes yet to come, and one that holds 12 and needs 10."""
    held = {1: 3.0, 2: 0.0, 3: 12.0}
    monkeypatch.setattr(memory, "_resident", held.__getitem__)
    for free, expected in ((26, False), (27, True)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert CellMemory(CPU).fits([(1, 10), (2, 10), (3, 10), (None, 10)]) is expected


def test_what_a_cell_needs_grows_with_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "step_bytes", lambda encoder, side, size: 1000 * size)
    monkeypatch.setattr(memory, "_resident", {os.getpid(): 7}.__getitem__)
    splits = [Pairs([""] * count, [""] * count, range(count), [()] * count) for count in (100, 10, 10)]  # type: ignore[arg-type]
    bundle = SimpleNamespace(train=splits[0], holdout=splits[1], test=splits[2], image_size=32)
    train = SimpleNamespace(batch_size=64, precision="fp32")
    spec = SimpleNamespace(model=SimpleNamespace(name="scenes-small"), train=train)
    workspace = SimpleNamespace(bundle=bundle)
    images = 120 * 3 * 32 * 32
    assert CellMemory(CPU).required(spec, workspace) == 7 + images + 64_000  # type: ignore[arg-type]
    train.batch_size = 500
    assert CellMemory(CPU).required(spec, workspace) == 7 + images + 100_000  # type: ignore[arg-type]
    assert CellMemory(CUDA).required(spec, workspace) == 7 + images  # type: ignore[arg-type]


def test_lines_of_cells_side_by_side_say_whose_they_are() -> None:
    said = io.StringIO()
    with JobsProgress(Console(file=said, width=200), 3) as progress:
        first, third = progress.of(1), progress.of(3)
        first.cell_started("one")
        third.cell_started("three")
        third.cell_postponed("three")
        first.epoch({"epoch": 0, "loss": 1.0, "pairs_per_second": 10.0}, 2)
        third.cell_started("three")
        third.cell_failed("three", "train: no reason")
    assert said.getvalue().splitlines() == [
        "[1/3] one",
        "[3/3] three",
        "[3/3] deferred: another process is training a cell that it needs",
        "[1/3] epoch 1/2  loss 1.000  10 pairs/s",
        "[3/3] three",
        "[3/3] FAILED train: no reason",
    ]
