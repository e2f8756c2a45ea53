"""Faults within a matrix: what is on record stays, the rest goes on, and the numbers are those of a run without faults."""

import contextlib
import errno
import os
import pickle
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import Batch, Encoder, Phase
from bench.defenses.clip import CLIP
from bench.errors import UserError
from bench.matrix.expand import Matrix
from bench.matrix.local import LocalExecutor
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models import pretrained
from bench.registry import register_defense

from .small import raw, small_matrix
from .training import Recorder, execute, without_times


def _values(matrix: Matrix, store: Store) -> list[Any]:
    """All that is on record of each cell but times, and its weights."""
    found = []
    for cell in matrix.cells:
        record = raw(store.run_record(cell.key))
        assert record, cell.title
        evals = [store.eval_record(cell.key, each.evaluator.name, each.key) for each in cell.evaluations]
        measured = [record and record.measurements for record in evals]
        weights = (store.run_dir(cell.key) / "model.safetensors").read_bytes()
        found.append((without_times(record["curves"]), record["examples"], record["poison"], measured, weights))
    return found


STEPS = 4


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return small_matrix(attacks=["badnet"], evaluators=["asr"])


@pytest.fixture(scope="module")
def whole(matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What the matrix gives without faults: the unpoisoned cell, and the poisoned one that is measured against it."""
    store = Store.create(tmp_path_factory.mktemp("whole"))
    outcomes, recorder = execute(matrix, store)
    assert outcomes == {"done": 2}
    assert recorder.steps == 2 * STEPS
    return store


class Disk:
    """A folder that at will takes no more."""

    def __init__(self, folder: Path, stop: Callable[[], None], go_on: Callable[[], None]) -> None:
        self.folder, self.stop, self.go_on = folder, stop, go_on


def _tmpfs(folder: Path, megabytes: int) -> None:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


def _fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as stream:
        while stream.write(bytes(2**12)):
            pass


@pytest.fixture(params=["full", "full as told by fsync", "read-only as told by fsync"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    if request.param == "full":
        _tmpfs(folder, 200)
        filler = folder / "filler"
        yield Disk(folder, lambda: _fill(filler), filler.unlink)
        subprocess.run(["umount", str(folder)], check=True)
        return
    number = errno.ENOSPC if request.param.startswith("full") else errno.EROFS
    sync = os.fsync

    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    folder.mkdir()
    yield Disk(folder, lambda: monkeypatch.setattr(os, "fsync", refuse), lambda: monkeypatch.setattr(os, "fsync", sync))


def test_a_disk_that_takes_no_more(matrix: Matrix, whole: Store, disk: Disk) -> None:
    """A full one has room for checkpoints until the end, as each takes the place of an older one, and not for the weights."""
    store = Store.create(disk.folder / "out")

    def stop(step: int) -> None:
        if step == STEPS + 3:  # in the second cell
            disk.stop()

    with pytest.raises(UserError, match=r"runs/\w+: (the disk is full|not writable \(Read-only)") as told:
        execute(matrix, store, heard=stop, checkpoint_seconds=0)
    assert "run the same command to resume" in str(told.value)
    assert str(matrix.cells[1].key) in str(told.value)
    first, second = (store.run_dir(cell.key) for cell in matrix.cells)
    assert (first / "run.json").exists()
    assert not (second / "run.json").exists()
    assert not list(store.root.rglob("*.tmp"))

    disk.go_on()
    outcomes, recorder = execute(matrix, store)
    assert outcomes == {"cached": 1, "done": 1}
    assert recorder.steps in (0, STEPS - 2)
    assert _values(matrix, store) == _values(matrix, whole)


def test_folders_that_take_nothing(tmp_path: Path) -> None:
    _tmpfs(tmp_path / "disk", 1)
    _fill(tmp_path / "disk" / "filler")
    try:
        with pytest.raises(UserError, match=r"disk/out: the disk is full \(0\.0 MB free\)"):
            Store.create(tmp_path / "disk" / "out")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        with pytest.raises(UserError, match=r"disk/out: not writable \(Read-only"):
            Store.create(tmp_path / "disk" / "out")
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_checkpoint_of_another_training_is_named(matrix: Matrix, tmp_path: Path, part: str) -> None:
    """It is sound, but cannot be gone on from; that cell fails until someone deletes it."""
    store = Store.create(tmp_path / "out")
    clean, poisoned = matrix.cells
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store, stop_after=2)
    path = store.run_dir(clean.key) / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content[part].popitem()
    torch.save(content, path)
    assert execute(matrix, store)[0]["failed"] == 2
    said = raw(store.failure(clean.key))["error"]
    assert f"checkpoints in {path.parent} belong to another training; delete them and use --retry-failed" in said
    assert store.run_record(poisoned.key) is not None
    path.unlink()
    assert execute(matrix, store, retry_failed=True)[0] == {"done": 2}


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["record", "flipped", "pickle", "torch"])
def test_damage_is_trained_anew(matrix: Matrix, whole: Store, tmp_path: Path, how: str) -> None:
    """Of the model that others are measured against; none of them is wrong, and no code in it runs."""
    store, ran = Store(shutil.copytree(whole.root, tmp_path / "out")), tmp_path / "ran"
    clean, poisoned = (store.run_dir(cell.key) for cell in matrix.cells)
    weights = clean / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "record":
        (clean / "run.json").write_bytes((clean / "run.json").read_bytes()[:-9])
    elif how == "torch":
        torch.save({"state_dict": _Bomb(ran)}, weights)
    else:
        weights.write_bytes(bytes(content) if how == "flipped" else pickle.dumps(_Bomb(ran)))
    for path in poisoned.glob("evals/*"):
        path.unlink()
    _, recorder = execute(matrix, store)
    assert recorder.steps == STEPS
    assert _values(matrix, store) == _values(matrix, whole)
    assert not ran.exists()


def test_weights_from_elsewhere_run_no_code(tmp_path: Path) -> None:
    torch.save({"state_dict": _Bomb(tmp_path / "ran")}, tmp_path / "w.pt")
    (tmp_path / "w.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    for name in ("w.pt", "w.bin"):
        known = pretrained.identified(f"small-64:{tmp_path / name}")
        with pytest.raises(UserError, match="contains pickled code"):
            pretrained.load(known, "fp32", torch.device("cpu"))
    assert not (tmp_path / "ran").exists()


def test_a_wait_for_another_process_can_be_stopped(matrix: Matrix, whole: Store, tmp_path: Path) -> None:
    store = Store(shutil.copytree(whole.root, tmp_path / "out"))
    clean, poisoned = matrix.cells
    (store.run_dir(clean.key) / "run.json").unlink()
    for path in store.run_dir(poisoned.key).glob("evals/*"):
        path.unlink()
    asked = time.monotonic() + 1
    runtime = Runtime(torch.device("cpu"), Recorder(), lambda: time.monotonic() > asked)
    with store.lock(clean.key), pytest.raises(KeyboardInterrupt):
        LocalExecutor(matrix, store, runtime, Recorder(), False).run()


def _register(name: str, spoil: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    """Plain CLIP whose loss is handed to `spoil` with the number of the step."""

    @register_defense(name)
    class Spoilt(CLIP):
        steps = 0

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            self.steps += 1
            return spoil(super().loss(batch, encoder, phase), self.steps)


def _raise(error: Exception) -> Any:
    raise error


def _spoil_last_gradient(loss: torch.Tensor, step: int) -> torch.Tensor:
    if step == 4:
        loss.register_hook(lambda gradient: gradient * np.nan)
    return loss


FAILURES: dict[str, tuple[Callable[[torch.Tensor, int], torch.Tensor], str]] = {
    "a_nan": (lambda loss, step: loss * (np.nan if step == 3 else 1), r"the loss became nan in epoch 0, step 2: the mean loss"),
    "b_large": (lambda loss, step: loss * 1e9**step, r"the loss became \S*e\+09 in epoch 0, step 0: the logit scale is 14"),
    "c_last": (_spoil_last_gradient, r"the weights .* are not finite in epoch 1, step 0"),
    "d_cuda": (lambda loss, step: _raise(torch.OutOfMemoryError("no")), r"out of memory: --set train\.batch_size"),
    "e_cpu": (lambda loss, step: loss + torch.empty(2**50).sum(), r"out of memory: --set train\.batch_size"),
    "f_numpy": (lambda loss, step: loss + np.empty(2**50).sum(), r"out of memory: --set train\.batch_size"),
}


def test_cells_that_fail_leave_the_others_right(registries: None, tmp_path: Path) -> None:
    for name, (spoil, _) in FAILURES.items():
        _register(name, spoil)
    _register("g_fine", lambda loss, step: loss)
    store, alone = Store.create(tmp_path / "out"), Store.create(tmp_path / "alone")
    matrix = small_matrix(defenses=[*FAILURES, "g_fine"])
    assert execute(matrix, store)[0] == {"failed": len(FAILURES), "done": 1}
    for cell, (name, (_, words)) in zip(matrix.cells, FAILURES.items(), strict=False):
        failure = raw(store.failure(cell.key))
        assert failure["stage"] == "train"
        assert re.search(words, failure["error"]), (name, failure["error"])
        assert store.run_record(cell.key) is None
        assert not (store.run_dir(cell.key) / "model.safetensors").exists()
    fine = small_matrix(defenses=["g_fine"])
    assert execute(fine, alone)[0] == {"done": 1}
    assert _values(fine, store) == _values(fine, alone)


def test_what_builds_on_a_cell_that_failed_fails_untried(registries: None, tmp_path: Path) -> None:
    steps: list[int] = []
    _register("broken", lambda loss, step: steps.append(step) or loss * np.nan)

    @register_defense("later")
    class Later(CLIP):
        @classmethod
        def starts_from(cls) -> str | None:
            return "broken"

    store, matrix = Store.create(tmp_path), small_matrix(attacks=["none"], defenses=["broken", "later"])
    assert execute(matrix, store)[0] == {"failed": 2}
    tried = len(steps)
    broken, later = (raw(store.failure(cell.key)) for cell in matrix.cells)
    assert f"the cell it depends on failed ({matrix.cells[0].title}: {broken['error']})" in later["error"]
    assert execute(matrix, store, retry_failed=True)[0] == {"failed": 2}
    assert len(steps) == 2 * tried, "once in each run"


def test_a_cell_is_trained_while_another_process_trains_what_it_is_measured_against(tmp_path: Path) -> None:
    matrix, store = small_matrix(evaluators=["asr"]), Store.create(tmp_path)
    clean, poisoned = matrix.cells
    latest = time.monotonic() + 60
    stop = lambda: store.run_record(poisoned.key) is not None or time.monotonic() > latest  # noqa: E731
    runtime = Runtime(torch.device("cpu"), Recorder(), stop)
    with store.lock(clean.key), pytest.raises(KeyboardInterrupt):
        LocalExecutor(matrix, store, runtime, Recorder(), False).run()
    assert store.run_record(poisoned.key) is not None
    assert store.run_record(clean.key) is None
    assert execute(matrix, store)[0] == {"done": 2}
