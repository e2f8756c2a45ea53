from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.submission.pack import submit

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The committed records, with files that stay behind and such that go along."""
    to = tmp_path / "results"
    shutil.copytree(REFERENCE, to)
    run = next((to / "runs").iterdir())
    for name in ("checkpoint.pt", "checkpoint.previous.pt", ".run.json.host.1.tmp", "model.safetensors", "notes.txt"):
        (run / name).write_bytes(b"stays")
    for name in ("predictions.npz", "scores.safetensors", "evals/asr-predictions.npz"):
        (run / name).write_bytes(b"goes along")
    (to / "locks").mkdir()
    (to / "locks" / "a.lock").touch()
    return to


def test_an_archive_of_the_committed_records(folder: Path, tmp_path: Path) -> None:
    packed = submit(folder, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(content.pop("submission.json"))
    assert manifest["files"] == {name: hashlib.sha256(each).hexdigest() for name, each in content.items()}
    assert manifest["environment"]["packages"]["numpy"]
    assert (packed.runs, packed.weights, packed.files) == (17, 0, len(content) + 1)
    kinds = [name.rpartition("/")[2] for name in content]
    assert kinds.count("run.json") == 17
    assert kinds.count("poison.json") == 16
    assert sum("/evals/" in name and name.endswith(".json") for name in content) == 50
    assert {"predictions.npz", "scores.safetensors", "asr-predictions.npz"} < set(kinds)
    assert not [name for name in content if content[name] == b"stays" or name.endswith((".toml", ".csv", ".lock", ".html"))]
    submit(folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "x.zip").read_bytes()


def test_weights_that_are_not_those_of_the_record(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors: its sha256 is not that in run\.json"):
        submit(folder, tmp_path / "x.zip", weights=True)


def test_what_is_asked_for_and_missing(folder: Path, tmp_path: Path) -> None:
    (lost,) = [path for path in (folder / "runs").iterdir() if (path / "model.safetensors").exists()]
    shutil.rmtree(lost)
    with pytest.raises(UserError, match=rf"runs/{lost.name}/run\.json: missing: .*; `bench run` with the same options adds it"):
        submit(folder, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_plugin_that_is_not_given(results: Path, plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'damped' is not built in as released.*; give its file with --plugin"):
        submit(results, tmp_path / "x.zip")
    with pytest.raises(UserError, match="no such file"):
        submit(results, tmp_path / "x.zip", plugins=[tmp_path / "none.py"])
    other = tmp_path / plugin.name
    other.write_text("pass")
    with pytest.raises(UserError, match="another file of this name"):
        submit(results, tmp_path / "x.zip", plugins=[plugin, other])


def test_records_of_an_earlier_version(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reference-0\.1/store\.json: its records are of schema 1"):
        submit(REFERENCE.with_name("reference-0.1"), tmp_path / "x.zip")
