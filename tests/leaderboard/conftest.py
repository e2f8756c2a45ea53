from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.canonical import digest, without_nulls
from bench.submission.verified import Level, Verified, write_verified
from tests.reports import records_maker as maker

Tree = dict[str, Any]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `records_maker`, whose numbers are a table there."""
    folder = tmp_path_factory.mktemp("records") / "made"
    maker.make(folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the folder; `asr` changes that of safeclip against badnet with seed 0, `level` is what was verified of it."""

    def copied(name: str, asr: float | None = None, level: Level | None = None) -> Path:
        to = tmp_path / name
        shutil.copytree(made, to)
        if asr is not None:
            (path,) = (to / "runs" / maker.key_for("badnet", "safeclip", 0) / "evals").glob("asr-*.json")
            edit(path, lambda tree: _set_asr(tree, asr))
        if level is not None:
            levels = {path.name: level for path in (to / "runs").iterdir()}
            write_verified(to, Verified(archive=f"{name}.zip", sha256="a" * 64, levels=levels))
        return to

    return copied


def _set_asr(tree: Tree, value: float) -> None:
    for each in tree["measurements"]:
        if each["metric"] == "asr":
            each["value"] = value


def edit(path: Path, change: Callable[[Tree], Any]) -> None:
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def rekeyed(folder: Path, change: Callable[[Tree], Any]) -> Path:
    """Change the specifications of all runs of a folder, and give the runs the keys that follow; without requests."""
    shutil.rmtree(folder / "requests")
    for path in list((folder / "runs").glob("*/run.json")):
        tree = json.loads(path.read_text())
        change(tree["spec"])
        key = digest(without_nulls(tree["spec"]))
        path.write_text(json.dumps(tree | {"run_key": key}))
        for each in path.parent.glob("evals/*.json"):
            edit(each, lambda tree, key=key: tree.update(run_key=key))
        path.parent.rename(path.parent.with_name(key))
    return folder
