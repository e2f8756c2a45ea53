"""Headers of tars are read as Python's tarfile reads them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from bench.data.tar_header import Header

NAMES = ("0001.jpg", "a" * 99, "b" * 100, "c" * 101 + ".txt", "folder/0002.txt", f"{'d' * 120}/0003.txt", "grüße.txt", "old/")
KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
SIZES = (0, 1, 511, 512, 513, 70_000)


def member(name: str, kind: bytes, size: int, mtime: float = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mtime = kind, mtime  # type: ignore[assignment]
    made.size = size if kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) else 0
    return made


def facts(file: Path, header: type[tarfile.TarInfo]) -> list[tuple[object, ...]]:
    with tarfile.open(file, "r:", tarinfo=header) as tar:
        return [(each.name, each.size, each.offset_data, each.isfile(), each.isdir(), each.issparse()) for each in tar]


@pytest.mark.parametrize("format", FORMATS)
def test_members_of_every_kind_and_name_are_those_of_tarfile(format: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w", format=format) as tar:
        for number, name in enumerate(NAMES):
            for kind in KINDS:
                if format == tarfile.USTAR_FORMAT and name.startswith("c"):
                    continue
                each = member(name, kind, SIZES[number % len(SIZES)], mtime=1.5 if format == tarfile.PAX_FORMAT else 1)
                tar.addfile(each, io.BytesIO(bytes(each.size)))
    expected = facts(tmp_path / "all.tar", tarfile.TarInfo)
    assert len(expected) > 36  # the last, an old folder with content, ends the tar
    assert facts(tmp_path / "all.tar", Header) == expected


def test_every_change_of_a_byte_is_taken_as_tarfile_takes_it() -> None:
    block = bytearray(member("0001.jpg", tarfile.REGTYPE, 12_345).tobuf(tarfile.USTAR_FORMAT))
    for place in range(len(block)):
        for value in (0, ord(" "), ord("0"), ord("8"), 0xFF):
            for mended in (False, True):
                changed = block.copy()
                changed[place] = value
                if mended:  # a checksum that holds
                    changed[148:156] = b" " * 8
                    changed[148:156] = b"%06o\0 " % sum(changed)
                assert parsed(Header, bytes(changed)) == parsed(tarfile.TarInfo, bytes(changed)), (place, value, mended)


def parsed(header: type[tarfile.TarInfo], block: bytes) -> object:
    try:
        found = header.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        return type(error), str(error)
    return found.name, found.size, found.type, found.issparse()


def test_a_plain_header_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    block = member("0001.jpg", tarfile.REGTYPE, 12_345).tobuf(tarfile.USTAR_FORMAT)
    monkeypatch.delattr(tarfile.TarInfo, "frombuf")
    assert Header.frombuf(block, "utf-8", "strict").size == 12_345
    with pytest.raises(AttributeError):
        Header.frombuf(block[:-1], "utf-8", "strict")
