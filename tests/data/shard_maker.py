"""Writes a shard of any files, as a folder or as a tar, and opens what was written."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.api.data import DataPlace, DatasetBundle, Findings
from bench.data.conceptual import CC3M, CC3MParams
from bench.errors import UserError

Members = Mapping[str, bytes]
LAYOUTS = ("files", "tars")
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def picture(number: int, kind: str = "JPEG", side: int = 24) -> bytes:
    """An image that is unique for each number."""
    out = io.BytesIO()
    image = Image.new("RGB", (side, side), (number % 251, number // 251 % 251, 90))
    image.putpixel((number % side, number // side % side), (255, 255, 255))
    image.save(out, kind)
    return out.getvalue()


def pairs(*numbers: int) -> dict[str, bytes]:
    """An image and a .txt for each number."""
    members = {}
    for number in numbers:
        members[f"{number:09d}.jpg"] = picture(number)
        members[f"{number:09d}.txt"] = f"a banana {number}".encode()
    return members


def tar_of(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def write(part: Path, layout: str, members: Members, shard: str = "00000") -> Path:
    """Writes a shard into the folder of a split."""
    part.mkdir(parents=True, exist_ok=True)
    if layout == "tars":
        (part / f"{shard}.tar").write_bytes(tar_of(members))
        return part / f"{shard}.tar"
    (part / shard).mkdir(exist_ok=True)
    for name, content in members.items():
        (part / shard / name).write_bytes(content)
    return part / shard


def download(root: Path, layout: str, train: Members, val: Members | None = None) -> Path:
    write(root / "train", layout, train)
    write(root / "val", layout, pairs(*range(9000, 9008)) if val is None else val)
    return root


def opened(root: Path, cache: Path | None = None, findings: Findings | None = None, **params: Any) -> DatasetBundle:
    return CC3M().open(CC3MParams(**params), 16, DataPlace(root, cache, findings))


def searched(root: Path, **params: Any) -> tuple[DatasetBundle, Findings]:
    """Open a download as `bench data verify` does."""
    findings = Findings()
    return opened(root, None, findings, **params), findings


def captions(bundle: DatasetBundle) -> dict[str, str]:
    """The training captions, by image name."""
    names = (uid.partition("/")[2].partition("/")[2] for uid in bundle.train.uids)
    return dict(zip(names, bundle.train.captions, strict=True))


def error_of(root: Path, *words: str, **params: Any) -> str:
    """The one-line error of opening a download, which contains all the words."""
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message
