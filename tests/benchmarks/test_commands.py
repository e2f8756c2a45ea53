"""The benchmarks of training and of many pairs, with sizes that take seconds."""

from __future__ import annotations

import io
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.benchmarks import gpu, millions, openclip, pairs, trainer
from bench.benchmarks.training import WARM, Training, pairs_per_second, trainer_of
from bench.errors import UserError
from tests.e2e.conftest import started

TRAINING = Training("scenes-small", 8, "fp32")
STEPS = 3
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _alone(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins, cache and cores of other tests stay as they are."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


def log_of(rates: list[float]) -> str:
    """Lines as open_clip's trainer logs them."""
    line = "INFO | Train Epoch: 0 [8/64 (12%)] Data (t): 0.01 Batch (t): 0.1, {rate:#g}/s, {rate:#g}/s/gpu LR: 0.001 Loss: 2.1"
    return "\n".join(line.format(rate=rate) for rate in rates)


def ended(code: int, errors: str) -> object:
    return lambda command, **how: subprocess.CompletedProcess(command, code, "", errors)


def test_open_clips_speed_is_that_of_the_steps_after_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [1.0] * WARM + [100.0, 400.0, 50.0] + [9.0]
    monkeypatch.setattr(subprocess, "run", ended(0, log_of(rates)))
    seconds = 8 / 100 + 8 / 400 + 8 / 50
    assert openclip.pairs_per_second(TRAINING, tmp_path, "csv", STEPS, 1, CPU) == pytest.approx(3 * 8 / seconds)


@pytest.mark.parametrize("code", [0, 1])
def test_an_open_clip_that_ends_early_is_an_error_that_says_why(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", ended(code, "bench: open_clip's trainer needs more (webdataset)"))
    with pytest.raises(UserError, match=r"ended after 0 of 3 steps: open_clip's trainer needs more \(webdataset\)"):
        openclip.pairs_per_second(TRAINING, tmp_path, "webdataset", STEPS, 1, CPU)


@pytest.mark.parametrize("format", list(pairs.DATA))
def test_ratios_are_of_the_runs_of_one_round(
    format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(openclip, "pairs_per_second", lambda *given: 100.0)
    options = ["--model", "scenes-small", "--batch-size", "8", "--steps", "3", "--rounds", "1", "--format", format]
    trainer.main(options, standalone_mode=False)
    said = capsys.readouterr().out.replace(",", "")
    assert "open_clip: 100 (100 to 100) pairs/s\n" in said
    for title in ("from files", "in memory"):
        found = re.search(rf"ours {title}: (\d+) .*ours {title} relative to open_clip: ([\d.]+) ", said, re.DOTALL)
        assert found, said
        assert float(found[2]) == pytest.approx(int(found[1]) / 100, abs=0.011)


def test_bad_input_is_one_sentence_and_exit_code_2() -> None:
    done = started("--data", "mscoco", start="import sys; from bench.benchmarks import run, trainer; run(trainer.main)")
    said, errors = done.communicate(timeout=120)
    assert (done.returncode, said) == (2, "")
    assert errors == "bench: --data mscoco: give its folder with --data-root DIR\n"


def test_a_spread_is_median_minimum_and_maximum() -> None:
    assert trainer.spread([3.0, 1.0, 2.0, 10_000.0, 2.5], 1) == "2.5 (1.0 to 10,000.0)"


@pytest.mark.slow
@pytest.mark.parametrize("format", list(pairs.DATA))
def test_open_clips_own_trainer_is_measured(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("webdataset", reason="open_clip_torch[training] is not installed")
    pytest.importorskip("braceexpand", reason="open_clip_torch[training] is not installed")
    options = ["--model", "scenes-small", "--batch-size", "8", "--steps", "3", "--rounds", "1", "--format", format]
    trainer.main(options, standalone_mode=False)
    assert re.match(r"open_clip: [1-9]\d* ", capsys.readouterr().out)


def test_a_run_that_the_data_set_is_too_small_for_is_an_error() -> None:
    with pytest.raises(UserError, match=r"--steps 9: .* fewer than 5 \+ 9 batches of 64"):
        pairs_per_second(_Few(), 9)  # type: ignore[arg-type]


class _Few:
    pairs = range(64)
    train = type("Train", (), {"batch_size": 64})


def test_the_device_waits_from_the_end_of_a_step_to_the_begin_of_the_next() -> None:
    waits = gpu.DeviceWaits(torch.device("cpu"))
    for step in range(4):
        time.sleep(0.2 if step == 1 else 0.01)
        with waits("augment"), waits("forward"):
            time.sleep(0.05)
        with waits("optimiser"):
            pass
    assert 0.02 <= waits.seconds_of_last(2) < 0.15
    assert 0.22 <= waits.seconds_of_last(3) < 0.35


@pytest.mark.parametrize("installed", [False, True])
def test_flop_rates_follow_from_pairs_and_the_matrix_product(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(openclip, "installed", lambda: installed)
    monkeypatch.setattr(openclip, "pairs_per_second", lambda *given: 64.0)
    options = ["--model", "scenes-small", "--batch-size", "8", "--precision", "fp32", "--steps", "3", "--side", "16"]
    gpu.main([*options, "--device", "cpu"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "no GPU is used: figures are of the CPU" in said
    rows = {cells[0]: cells[1:] for line in said.splitlines() if (cells := re.split(r" ?\| ?", line)[1:-1])}
    peak = float(rows["matrix product"][1])
    assert ("open_clip's trainer is not measured: pip install" in said) is not installed
    theirs = [rows.get(f"open_clip, {title}") for title in ("JPEG files", "WebDataset")]
    assert [row and (row[0], row[3]) for row in theirs] == [("64", "") if installed else None] * 2
    flop = set()
    for title in ("JPEG files", "WebDataset", "a batch on the device"):
        rate, reached, share, waits = rows[title]
        assert float(share.rstrip("%")) / 100 == pytest.approx(float(reached) / peak, abs=0.002)
        assert 0 <= float(waits.rstrip("%")) <= 100
        flop.add(float(reached) * 1e12 / float(rate.replace(",", "")))
    assert max(flop) == pytest.approx(min(flop), rel=0.05)
    assert max(flop) > 6 * _weights_of_convolutions_on_places()


def _weights_of_convolutions_on_places() -> float:
    """Multiplications of an image in the first convolution of the image tower alone, which a step passes three times."""
    from bench.models import factory

    first = next(each for each in factory.create("scenes-small", 0).modules() if isinstance(each, torch.nn.Conv2d))
    return first.weight.numel() * (32 / first.stride[0]) ** 2 / 1.5


def test_files_are_read_for_every_batch_but_in_memory_and_on_a_fixed_batch(tmp_path: Path) -> None:
    gpu.make(tmp_path / "csv", "csv", TRAINING.pairs(STEPS), 16)
    request, cpu = TRAINING.request("csv", tmp_path / "csv", ()), torch.device("cpu")
    with trainer_of(request, cpu) as reading, trainer_of(request, cpu, in_memory=True) as remembering:
        assert pairs_per_second(reading, STEPS) > 0
        with gpu.fixed_batch(reading):
            for image in (tmp_path / "csv" / "images").rglob("*.jpg"):
                image.unlink()
            assert pairs_per_second(reading, STEPS) > 0
        assert pairs_per_second(remembering, STEPS) > 0
        with pytest.raises(UserError, match="jpg"):
            pairs_per_second(reading, STEPS)


@pytest.mark.parametrize("format", list(pairs.DATA))
def test_every_step_on_many_pairs_is_held_against_the_limits(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(millions, "sentences", lambda count, rng: [f"a {('goose', 'hen')[row % 2]}" for row in range(count)])
    millions.make(tmp_path / format, format, 3000)
    monkeypatch.setattr(millions, "GIB", 1e3)
    monkeypatch.setattr(millions, "SECONDS", 1e3)
    assert millions.within_limits(tmp_path, format, "badnet")
    steps = re.findall(r"^  (.+): [\d.]+ s \([\d.]+ s of CPU\), peak [\d.]+ GiB$", capsys.readouterr().out, re.MULTILINE)
    assert [step.split()[0] for step in steps] == ["open", "open", "poison", "tokenise", "an", "export"]
    assert len((tmp_path / "captions.csv").read_text().splitlines()) == round(0.9 * 3000) + 1  # one poison is added


def test_a_step_beyond_a_limit_is_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(millions, "GIB", 1024.0)  # the tests before have a peak of their own
    steps = millions.Steps()
    with steps("short"):
        pass
    assert steps.within
    monkeypatch.setattr(millions, "SECONDS", 0.01)
    monkeypatch.setattr(millions, "GIB", 0.001)
    with steps("long"):
        time.sleep(0.02)
    monkeypatch.undo()
    with steps("short again"):
        pass
    assert not steps.within
    assert ": more than 0.01 s and 0.001 GiB\n" in capsys.readouterr().out


def test_a_folder_with_another_number_of_pairs_is_an_error(tmp_path: Path) -> None:
    millions.make(tmp_path / "csv", "csv", 10)
    millions.make(tmp_path / "csv", "csv", 10)
    with pytest.raises(UserError, match="csv/ does not hold 11 pairs; remove it"):
        millions.make(tmp_path / "csv", "csv", 11)


def test_made_up_images_are_distinct_files_that_decode() -> None:
    for made, side in ((list(pairs.tiny(300)), 8), (list(pairs.pictures(300, 20, np.random.default_rng(0))), 20)):
        assert len(set(made)) == 300
        assert {Image.open(io.BytesIO(content)).convert("RGB").size for content in made} == {(side, side)}
