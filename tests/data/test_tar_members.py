"""Members of tars are read as Python's tarfile reads them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.data import shard_index
from bench.data.tar_members import plain_members

NAMES = ("0001.jpg", "a" * 99, "b" * 100, "c" * 101 + ".txt", "folder/0002.txt", f"{'d' * 120}/0003.txt", "grüße.txt", "old/")
KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
SIZES = (0, 1, 511, 512, 513, 70_000)
PLAIN = ("0001.jpg", "0001.txt", "0002.jpg", "0002.txt")
BLOCK = tarfile.BLOCKSIZE


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 5, mtime: float = 1) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mtime = kind, mtime  # type: ignore[assignment]
    made.size = size if kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) else 0
    return made


def packed(members: Iterable[tarfile.TarInfo], format: int = tarfile.USTAR_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=format) as tar:
        for each in members:
            tar.addfile(each, io.BytesIO(b"a cat"[: each.size].ljust(each.size, b"\0")))
    return content.getvalue()


def found(file: Path, content: bytes) -> tuple[list[tuple[str, int, int]], int]:
    file.write_bytes(content)
    with file.open("rb") as stream:
        members, end = plain_members(stream.fileno())
    return [tuple(each) for each in members], end


@pytest.mark.parametrize("format", FORMATS)
def test_members_of_every_kind_and_name_are_those_of_tarfile(format: int, tmp_path: Path) -> None:
    for name in NAMES:
        for number, kind in enumerate(KINDS):
            if format == tarfile.USTAR_FORMAT and name.startswith("c"):
                continue
            time = 1.5 if format == tarfile.PAX_FORMAT else 1
            content = packed([member("first.jpg"), member(name, kind, SIZES[number], time), member("last.txt")], format)
            mine, end = found(tmp_path / "a.tar", content)
            with tarfile.open(tmp_path / "a.tar", "r:") as tar:
                theirs = [(each.name, each.size, each.offset_data) for each in tar]
                starts = [*(each.offset for each in tar.getmembers()), tar.offset]
            assert mine == theirs[: len(mine)]
            assert end == starts[len(mine)]


@pytest.mark.parametrize(("format", "mtime"), [(tarfile.USTAR_FORMAT, 1), (tarfile.PAX_FORMAT, 1), (tarfile.PAX_FORMAT, 1.25)])
def test_shards_as_tar_and_webdataset_write_them_are_read_whole(format: int, mtime: float, tmp_path: Path) -> None:
    content = packed([member(name, mtime=mtime) for name in PLAIN], format)
    mine, end = found(tmp_path / "a.tar", content)
    assert [name for name, _, _ in mine] == list(PLAIN)
    assert content[end:].strip(b"\0") == b""


def indexed(file: Path, content: bytes) -> list[object]:
    file.write_bytes(content)
    index = shard_index.of_tar(file, lambda: None)
    return [column.tolist() for column in index]


def check_as_tarfile_alone(contents: Iterable[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, content in enumerate(contents):
        mine = indexed(folder / "a.tar", content)
        with monkeypatch.context() as patch:
            patch.setattr(shard_index, "plain_members", lambda handle: ([], 0))
            assert mine == indexed(folder / "a.tar", content), number


@pytest.mark.parametrize(
    ("format", "mtime", "places"), [(tarfile.USTAR_FORMAT, 1, BLOCK), (tarfile.PAX_FORMAT, 1.25, 3 * BLOCK)]
)
def test_every_change_of_a_byte_is_taken_as_tarfile_takes_it(
    format: int, mtime: float, places: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed([member(name, mtime=mtime) for name in PLAIN[:2]], format)

    def changes() -> Iterable[bytes]:
        for place in range(places):
            if place % BLOCK > 80 and place // BLOCK == 1:  # beyond the record of the time
                continue
            for value in (0, ord(" "), ord("0"), ord("8"), 0xFF):
                changed = bytearray(content)
                changed[place] = value
                yield bytes(changed)
                start = place // BLOCK * BLOCK
                block = changed[start : start + BLOCK]
                block[148:156] = b" " * 8
                changed[start + 148 : start + 156] = b"%06o\0 " % sum(block)  # a checksum that holds
                yield bytes(changed)

    check_as_tarfile_alone(changes(), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "record", [b"00 mtime=1.25\n", b"09 mtime=1.25\n", b"14 mtime=1.25\n", b"99 mtime=1.25\n", b"14 atime=1.25\n"]
)
def test_an_extended_header_is_taken_as_tarfile_takes_it(
    record: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed([member(name, mtime=1.25) for name in PLAIN[:2]], tarfile.PAX_FORMAT)
    written = b"14 mtime=1.25\n"
    assert written in content
    check_as_tarfile_alone([content.replace(written, record)], tmp_path, monkeypatch)


@pytest.mark.parametrize(("format", "mtime"), [(tarfile.USTAR_FORMAT, 1), (tarfile.PAX_FORMAT, 1.25)])
def test_a_cut_tar_is_taken_as_tarfile_takes_it(
    format: int, mtime: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed([member(name, size=700, mtime=mtime) for name in PLAIN], format)
    check_as_tarfile_alone((content[:length] for length in range(1, len(content), 61)), tmp_path, monkeypatch)


def test_contents_are_read_where_they_start(tmp_path: Path) -> None:
    content = packed([member(name, size=size) for name, size in zip(PLAIN, SIZES, strict=False)])
    mine, _ = found(tmp_path / "a.tar", content)
    with tarfile.open(tmp_path / "a.tar", "r:") as tar:
        for name, size, start in mine:
            extracted = tar.extractfile(name)
            assert extracted is not None
            assert content[start : start + size] == extracted.read()
