"""--recipe, from the command line to the command that a record is made again with."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bench.matrix.store import Store
from bench.reports.command import command_of
from bench.reports.records import load_runs

from .conftest import SIZES, Bench

MINE = """
base = "small"
[train]
epochs = 1
batch_size = 64
[attack]
rate = 0.05
"""
SET = tuple(part for option in SIZES for part in ("--set", option))


def test_a_run_by_a_file_of_ones_own_and_again_by_its_command(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my recipe.toml").write_text(MINE)
    asked = ("run", "--recipe", "my recipe.toml", *SET, "--attack", "badnet", "--evaluator", "zero_shot", "--out", "out")
    done = bench(*asked)
    assert done.code == 0, done.err
    runs = load_runs(Store.open(Path("out")))
    assert {(run.attack, run.spec.train.epochs, run.spec.train.lr) for run in runs} == {("badnet", 1, 1.4e-3)}
    (run,) = runs
    assert run.recipe == "my recipe.toml"
    words = shlex.split(" ".join(command_of(run)))
    assert words[words.index("--recipe") + 1] == "my recipe.toml"
    again = bench(*words[1:], "--evaluator", "zero_shot", "--out", "out", "--dry-run")
    assert f"{run.key}  {run.defense}" in again.out
    assert "1 cells, 0 to be trained" in again.out


def test_what_reads_recipes_takes_one(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MINE + "[data]\ntrain = 320\nholdout = 64\ntest = 64\nprobe_train = 64\n")
    own = bench("run", "--recipe", "mine.toml", "--suite", "table10", "--data", "scenes", "--out", "out", "--dry-run")
    assert own.code == 0, own.err
    assert "448 pairs: 320 train" in bench("data", "verify", "scenes", "--recipe", "mine.toml").out
    assert "of 16 poisons" in bench("show", "badnet", "--recipe", "mine.toml", "--picture", "shown.png").out
    profiled = bench("profile", "--recipe", "mine.toml", "--defense", "clip", "--steps", "1")
    assert profiled.code == 0, profiled.err
    listed = [line.split()[:4] for line in bench("list", "recipes").out.splitlines()]
    assert ["small", "Small", "images", "on"] in listed
