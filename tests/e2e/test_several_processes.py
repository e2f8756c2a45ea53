"""Cells that several processes train, against the same cells trained by one."""

import itertools
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from .conftest import SIZES, started

PLUGIN = Path(__file__).with_name("witness_plugin.py")
OPTIONS = (*SIZES, "train.epochs=3", "train.batch_size=64", "train.lr=1e-3", "train.thesaurus=dataset")
DEFENSES = ("defense.cleanclip.epochs=3",)
SET = tuple(part for option in (*OPTIONS, *DEFENSES) for part in ("--set", option))
MODEL = ("--model", "scenes-vit-8", "--precision", "fp32", "--device", "cpu", "--checkpoint-minutes", "0")
COMMON = ("run", *SET, *MODEL, "--plugin", PLUGIN, "--attack", "badnet")
ASR = ("--evaluator", "asr", "--defense")
ZERO_SHOT = ("--evaluator", "zero_shot", "--defense")
TOLERANCE = 1e-4


def _several(count: int, out: Path, *arguments: object, **environment: object) -> list[subprocess.Popen[str]]:
    """The processes of one run, without anyone to watch over them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NOTES": out / "notes", **environment}
    command = (*COMMON, *arguments, "--out", out)
    return [started(*command, RANK=rank, LOCAL_RANK=rank, **world) for rank in range(count)]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the tests compare with, done by one process."""
    out = tmp_path_factory.mktemp("single")
    chosen = ("--evaluator", "asr,zero_shot", "--defense", "clip,roclip,watched,cleanclip,uneven,mortal")
    assert _ended([started(*COMMON, *chosen, "--out", out, NOTES=out / "notes")]) == [0]
    return out


def _torchrun(out: Path, *arguments: object) -> subprocess.Popen[str]:
    launcher = "import sys; from torch.distributed.run import main; main(sys.argv[1:])"
    flags = ("--standalone", "--nproc-per-node", "2", "-m", "bench")
    return started(*flags, *COMMON, *arguments, "--out", out, start=launcher, NOTES=out / "notes")


def _ended(processes: Sequence[subprocess.Popen[str]], seconds: float = 600) -> list[int]:
    """Exit codes; what was said is shown where a test fails. None is left running."""
    deadline = time.monotonic() + seconds
    try:
        for process in processes:
            print(*process.communicate(timeout=deadline - time.monotonic()), file=sys.stderr)
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes]


def _records(out: Path) -> dict[str, dict[str, Any]]:
    found = {path.parent.name: json.loads(path.read_text()) for path in out.glob("runs/*/run.json")}
    assert found
    return found


def _notes(out: Path, name: str, rank: int = 0) -> list[Any]:
    return [json.loads(line) for line in (out / "notes" / f"{name}.{rank}").read_text().splitlines()]


def _same_cells(out: Path, single: Path, processes: int) -> None:
    """Records, weights and measurements of all cells."""
    records, expected = _records(out), _records(single)
    for key, record in records.items():
        assert record["provenance"]["processes"] == processes
        assert expected[key]["provenance"]["processes"] == 1
        for curve, other in zip(record["curves"], expected[key]["curves"], strict=True):
            assert curve["pairs"] == other["pairs"]
            assert curve["loss"] == pytest.approx(other["loss"], abs=TOLERANCE)
            assert curve["logit_scale"] == pytest.approx(other["logit_scale"], rel=TOLERANCE)
        for limit, other in zip(record["engagement"], expected[key]["engagement"], strict=True):
            assert limit == {**other, "value": pytest.approx(other["value"], abs=0.02)}
        assert np.allclose(record["examples"]["values"], expected[key]["examples"]["values"], atol=1e-3)
        weights, others = (load_file(folder / "runs" / key / "model.safetensors") for folder in (out, single))
        assert max(float(np.abs(weights[name] - others[name]).max()) for name in others) < 1e-3
        measured = list((out / "runs" / key).glob("evals/*.json"))
        assert measured or record["spec"]["attack"] is None
        assert [_measurements(path) for path in measured] == [
            _measurements(single / path.relative_to(out)) for path in measured
        ]


def _measurements(path: Path) -> Any:
    return json.loads(path.read_text())["measurements"]


def _same_gradients(out: Path, single: Path, processes: int) -> None:
    """At every step, the norm of every parameter's gradient on every process."""
    for rank, key in itertools.product(range(processes), _records(out)):
        expected, found = _notes(single, f"gradients-{key}"), _notes(out, f"gradients-{key}", rank)
        assert len(found) == len(expected)
        for step, others in zip(found, expected, strict=True):
            assert [each is None for each in step] == [each is None for each in others]
            assert np.allclose(*([each or 0.0 for each in norms] for norms in (step, others)), rtol=1e-2, atol=1e-5)


def test_the_numbers_are_those_of_one_process(single: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    assert _ended([_torchrun(two, *ASR, "clip,roclip,watched,cleanclip")]) == [0]
    assert len(_records(two)) == 5
    _same_cells(two, single, processes=2)
    _same_gradients(two, single, processes=2)
    safe = _notes(single, "safe")
    assert 0 < len(safe[-1]) < 256
    assert _notes(two, "safe", 0) == _notes(two, "safe", 1) == safe


def test_batches_that_do_not_divide_and_a_loss_that_is_no_number(single: Path, tmp_path: Path) -> None:
    three = tmp_path / "three"
    assert _ended(_several(3, three, *ZERO_SHOT, "doomed,uneven")) == [1, 0, 0]
    assert len(_records(three)) == 1
    _same_cells(three, single, processes=3)
    _same_gradients(three, single, processes=3)
    (failure,) = three.glob("runs/*/failure.json")
    assert "the loss became nan" in failure.read_text()


def test_all_end_with_one_and_one_goes_on(single: Path, tmp_path: Path) -> None:
    out, mortal = tmp_path / "out", (*ZERO_SHOT, "mortal")
    asked = _several(2, out, *mortal, WAIT=0.2)
    _until(out / "notes" / "steps.1", 2, asked)
    asked[1].send_signal(signal.SIGTERM)
    assert _ended(asked) == [130, 143]
    assert len(list(out.glob("runs/*/checkpoint.pt"))) == 1

    dying = _several(2, out, *mortal, DIES=1, NOTES=out / "dying")
    assert dying[1].wait(timeout=600) == 9
    assert _ended(dying, 60) == [1, 9]
    assert not list(out.glob("runs/*/run.json"))
    assert not list(out.glob("runs/*/failure.json"))

    assert _ended([started(*COMMON, *mortal, "--out", out, NOTES=out / "notes")]) == [0]
    assert len(_notes(out, "steps")) == len(_notes(single, "steps")) - 2  # two of those that it did before it died are kept
    _same_cells(out, single, processes=1)


def _until(file: Path, lines: int, processes: Sequence[subprocess.Popen[str]]) -> None:
    while not (file.exists() and len(file.read_text().splitlines()) >= lines):
        if any(process.poll() is not None for process in processes):
            _ended(processes)
            raise AssertionError(f"ended without {lines} lines in {file}")
        time.sleep(0.02)
