"""Damaged and unusual tars: damage is named, and the complete samples before it are read."""

import contextlib
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError

from .shard_maker import captions, download, error_of, opened, pairs, picture, searched, tar_of, write


def test_a_truncated_tar_is_named_and_its_complete_samples_are_read(tmp_path: Path) -> None:
    members = pairs(*range(12))
    whole = tar_of(members)
    root = download(tmp_path, "tars", members)
    ends = {}
    with tarfile.open(root / "train/00000.tar") as tar:
        for member in tar:
            ends[member.name] = member.offset_data + member.size
    end = -(-max(ends.values()) // 512) * 512
    rng = random.Random(0)
    for cut in {*range(512, end + 512, 512), *(rng.randrange(1, end) for _ in range(20))}:
        (root / "train/00000.tar").write_bytes(whole[:cut])
        message = error_of(root, "00000.tar is incomplete", "download this shard again")
        kept = {name[:-4] for name in members if ends[name] <= cut and name.endswith("txt")}
        assert ("on_error=skip" in message) == bool({name for name, at in ends.items() if at <= cut and name.endswith("jpg")})
        if kept:
            bundle = opened(root, on_error="skip")
            assert {name[:-4] for name in captions(bundle)} == kept
            assert bundle.facts["skipped_incomplete"] == 1
    (root / "train/00000.tar").write_bytes(whole[: end + 512])
    assert len(opened(root).train) == 12


@pytest.mark.parametrize("head", [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"])
def test_compressed_tars_are_reported(tmp_path: Path, head: bytes) -> None:
    root = download(tmp_path, "tars", pairs(1, 2))
    (root / "train/00001.tar").write_bytes(head + b"x" * 600)
    error_of(root, "00001.tar", "it is compressed", "decompress")
    (root / "train/00001.tar").rename(root / "train/00001.tar.gz")
    error_of(root, "00001.tar.gz is a compressed tar", "decompress")
    write(root / "train", "tars", pairs(3), "00001")
    assert len(opened(root).train) == 3


def test_damaged_bytes_never_raise_a_traceback(tmp_path: Path) -> None:
    root = download(tmp_path, "tars", pairs(1, 2, 3))
    rng = random.Random(1)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = tar_of(
            {**pairs(1, 2), f"{'long' * 40}é.jpg": picture(3), f"{'long' * 40}é.txt": b"a"} if form else pairs(1, 2), form
        )
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 3, 30))):
                damaged[rng.randrange(len(damaged))] = rng.choice((0, 255, 32, 48, rng.randrange(256)))
            (root / "train/00000.tar").write_bytes(damaged)
            with contextlib.suppress(UserError):
                opened(root, on_error="skip")


def _header(kind: bytes, size: bytes | None = None, content: bytes = b"") -> bytes:
    """A tar member of a type, with its size field replaced by `size`, 12 bytes."""
    member = tarfile.TarInfo("odd")
    member.type, member.size = kind, len(content)
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = size or head[124:136]
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content.ljust(-(-len(content) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    "odd",
    [
        _header(tarfile.REGTYPE, b"\xff" * 12),
        _header(tarfile.GNUTYPE_LONGNAME, b"\x80" + b"\xff" * 11),
        _header(tarfile.XHDTYPE, content=b"21 GNU.sparse.size=x\n"),
        _header(tarfile.XHDTYPE, content=b"12 path=odd\n") * 1000,
        b"\xff" * 512,
    ],
    ids=["negative size", "huge size", "invalid number", "nested headers", "noise"],
)
def test_invalid_headers_end_a_tar(tmp_path: Path, odd: bytes) -> None:
    """The samples before them are read."""
    root = download(tmp_path, "tars", {})
    end = sum(512 + -(-len(content) // 512) * 512 for content in pairs(1, 2).values())
    (root / "train/00000.tar").write_bytes(tar_of(pairs(1, 2))[:end] + odd + tar_of(pairs(3)))
    error_of(root, "00000.tar is incomplete", "download this shard again", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert list(captions(bundle)) == ["000000001.jpg", "000000002.jpg"]
    assert bundle.facts["skipped_incomplete"] == 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_in_all_formats(tmp_path: Path, form: int) -> None:
    root = download(tmp_path, "tars", pairs(1))
    stem = f"{'deep/' * 20}{'n' * 60}"
    members = {
        f"./{stem}.JPG": picture(5),
        f"./{stem}.TXT": b"a lemon",
        "b/1.Jpeg": picture(6),
        "b/1.Json": b'{"caption": "a nut"}',
    }
    (root / "train/00000.TAR").write_bytes(tar_of(members, form))
    (root / "train/00000.tar").unlink()
    bundle, findings = searched(root)
    assert captions(bundle) == {"b/1.Jpeg": "a nut", f"{stem}.JPG": "a lemon"}
    assert not findings.counts
    assert len(bundle.train.images.load(np.arange(2))) == 2
