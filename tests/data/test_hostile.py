"""Downloads that try to reach beyond themselves."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from bench.data import shards
from bench.data.files import decode
from bench.errors import UserError

from .coco_maker import make_coco
from .conceptual_maker import sample
from .test_mscoco import opened as coco


def _member(tar: tarfile.TarFile, name: str, content: bytes = b"", **facts: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for fact, value in facts.items():
        setattr(member, fact, value)
    tar.addfile(member, io.BytesIO(content))


def _read(folder: Path) -> shards.Shards:
    return shards.read(folder, "tars", lambda: None, None, None)


def test_a_tar_cannot_refer_to_other_files(tmp_path: Path) -> None:
    """Names that lead out of it are only names, links are nothing, and nothing is unpacked."""
    secret = tmp_path / "secret.jpg"
    Image.new("RGB", (30, 30), "white").save(secret)
    folder = tmp_path / "a" / "train"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for name in ("../../../out", f"{tmp_path}/absolute", "plain"):
            _member(tar, f"{name}.jpg", sample(1)[".jpg"])
            _member(tar, f"{name}.txt", b"a banana")
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            _member(tar, f"link{number}.jpg", type=kind, linkname=str(secret))
        _member(tar, "device.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
    before = sorted(tmp_path.rglob("*"))
    found = _read(folder)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(found) == 3
    pixels = found.images(16).load(np.arange(3))
    (tmp_path / "plain.jpg").write_bytes(sample(1)[".jpg"])
    assert all(np.array_equal(each, decode(tmp_path / "plain.jpg", 16)) for each in pixels.numpy())
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "plain.jpg"])


@pytest.mark.parametrize("tars", [True, False])
def test_captions_that_are_too_long_or_nested_too_deeply_are_ignored(tmp_path: Path, tars: bool) -> None:
    hostile = {"1": {".txt": b"x" * (2**20 + 1)}, "2": {".json": b"[" * 10**5}, "3": {".json": b'{"caption":' * 10**5}}
    folder = tmp_path / "train"
    (folder / "00000").mkdir(parents=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for stem, beside in hostile.items():
            for ending, content in {".jpg": sample(1)[".jpg"], **beside}.items():
                _member(tar, f"{stem}{ending}", content)
                (folder / "00000" / f"{stem}{ending}").write_bytes(content)
    found = shards.read(folder, "tars" if tars else "files", lambda: None, None, None)
    assert list(found.captions) == ["", "", ""]


def test_json_nested_too_deeply_is_reported(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    file = root / "annotations" / "captions_train2017.json"
    file.write_text("[" * 10**6)
    with pytest.raises(UserError, match=r"captions_train2017\.json is not complete JSON"):
        coco(root)


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand an EPS, whatever its name, to Ghostscript."""
    Image.new("RGB", (20, 20)).save(tmp_path / "a.eps")
    os.rename(tmp_path / "a.eps", tmp_path / "a.jpg")
    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: called.append(arguments))
    with pytest.raises(UserError, match=r"a\.jpg is not an image in a known format"):
        decode(tmp_path / "a.jpg", 16)
    assert called == []
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    assert decode(tmp_path / "b.png", 16).shape == (3, 16, 16)
