"""Options that name a file to write, and what libraries say meanwhile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Bench, started

WRITING = [("profile", "--trace"), ("profile", "--out"), ("show badnet", "--picture")]


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.matrix import expand

    def refuse(*_: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(expand, "expand", refuse)


@pytest.mark.parametrize(("command", "option"), WRITING)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    bench: Bench, no_work: None, tmp_path: Path, command: str, option: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir(mode=0o500)
    bad = {
        tmp_path / "none" / "x.json": f"folder {tmp_path / 'none'} does not exist; create it or choose another",
        tmp_path / "file" / "x.json": f"folder {tmp_path / 'file'} does not exist; create it or choose another",
        tmp_path: "is a folder; give a file in it",
    }
    if os.geteuid():
        bad[tmp_path / "locked" / "x.json"] = "is not writable; choose another file"
    for path, words in bad.items():
        done = bench(*command.split(), option, path)
        assert (done.code, done.out, done.err) == (2, "", f"bench: {option} {path}: {words}\n")


def test_a_picture_is_a_png_whatever_it_is_called(bench: Bench, tmp_path: Path) -> None:
    sizes = [part for name in ("train", "holdout", "test", "probe_train") for part in ("--set", f"data.{name}=256")]
    done = bench("show", "badnet", *sizes, "--picture", tmp_path / "picture.xyz")
    assert done.code == 0, done.err
    assert (tmp_path / "picture.xyz").read_bytes().startswith(b"\x89PNG")


def _damaged_exif(root: Path) -> Path:
    """Pairs whose images make Pillow warn."""
    root.mkdir()
    rows = ["filepath,title"]
    for number in range(40):
        name = f"{number}.jpg"
        exif = b"Exif\0\0MM\0*\xff\xff\xff\xff\xff"
        Image.new("RGB", (20, 20), (5 * number, 200, 10)).save(root / name, exif=exif)
        rows.append(f"{name},a green picture {number}")
    (root / "train.csv").write_text("\n".join(rows) + "\n")
    return root


def test_warnings_of_libraries_stay_out_of_sight(tmp_path: Path) -> None:
    root = _damaged_exif(tmp_path / "data")
    command = ("data", "verify", "csv", "--data-root", root, "--decode")
    out, err = started(*command).communicate()
    assert err == ""
    assert "unreadable: 0" in out
    told = started(*command, PYTHONWARNINGS="default").communicate()[1]
    assert "Corrupt EXIF" in told


def test_warnings_of_a_plugin_file_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "warner.py"
    file.write_text("import warnings\nwarnings.warn('mind the gap')\n")
    _, err = started("list", "defenses", "--plugin", file).communicate()
    assert "mind the gap" in err
    assert "UserWarning" in err


def test_a_picture_needs_the_library_that_draws(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = bench("show", "badnet")
    assert (done.code, done.out) == (2, "")
    assert "pip install 'clip-poison-bench[plot]'" in done.err
