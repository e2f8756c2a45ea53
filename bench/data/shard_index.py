"""Index one shard: a folder of files, or a WebDataset tar of the same files, which is never unpacked."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from bench.data.samples import TEXTS, ByteRange, Index, Samples, TableReader, shown
from bench.data.tar_members import plain_members
from bench.errors import UserError

_MAX_TEXT = 2**20
"""The largest .txt or .json in bytes that is read as a caption."""
_PAGE = 4096
_PROBES = 32
_BAD_TAR = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def of_folder(folder: Path, table: TableReader) -> Index:
    """Index a folder. Faults of its files are noted in the index; raises UserError if it cannot be listed."""
    samples, texts = Samples(_file), []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                samples.add(entry.name, partial(_in_folder, entry), entry.path)
                if entry.name.endswith(TEXTS):
                    texts.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    chosen = texts[:: len(texts) // _PROBES + 1]
    return samples.index(table, probes=[probe(folder, name) for name in chosen])


def probe(folder: Path, name: str) -> list[Any]:
    """A file's name, size and time, which change when it is overwritten; the time of its folder does not."""
    with contextlib.suppress(OSError):
        status = os.stat(folder / name)
        return [name, status.st_size, status.st_mtime_ns]
    return [name, 0, 0]


def of_tar(file: Path, table: TableReader) -> Index:
    """Index the complete members of a tar; damage is noted in the index. Raises UserError if the file cannot be opened."""
    samples = Samples(lambda content: content)
    try:
        flaw = _members(file, samples)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
    return samples.index(table, flaw)


def _members(file: Path, samples: Samples) -> str:
    """Add the complete members of a tar. Return why the tar itself is incomplete; empty if it is not."""
    length, last = file.stat().st_size, "its beginning"
    with file.open("rb") as stream:
        members, end = plain_members(stream.fileno())
        for name, size, start in members:
            last = name.removeprefix("./")
            samples.add(last, partial(_place, size, start), _text(stream, name, size, start))
        stream.seek(end)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if member.size < 0:
                        return f"it is damaged at byte {member.offset}, after {shown(last)}"
                    if member.isfile() and member.offset_data + member.size > length:
                        return f"it ends within {shown(member.name)}"
                    last = member.name.removeprefix("./")
                    if not member.isdir():
                        samples.add(last, partial(_in_tar, member), _content(stream, tar, member))
                end = tar.offset
        except _BAD_TAR as error:
            return _why(stream, f"it cannot be read as a tar after {shown(last)}: {error}")
        stream.seek(end)
        rest = stream.read()
    if len(rest) < tarfile.BLOCKSIZE:
        return f"it lacks the end of a tar after {shown(last)}"
    return f"it is damaged at byte {end}, after {shown(last)}" if rest.strip(b"\0") else ""


def _why(stream: BinaryIO, problem: str) -> str:
    stream.seek(0)
    compressed = stream.read(8).startswith(_COMPRESSED)
    return "it is compressed, but tars are read in place: decompress it to a plain tar" if compressed else problem


def _place(size: int, start: int) -> ByteRange:
    return size, start


def _in_tar(member: tarfile.TarInfo) -> ByteRange | None:
    return (member.size, member.offset_data) if member.isfile() and not member.issparse() else None


def _content(stream: BinaryIO, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if not member.isfile():
        return None
    if member.issparse() and _is_text(member.name, member.size):
        unpacked = tar.extractfile(member)
        return unpacked.read() if unpacked else None
    return _text(stream, member.name, member.size, member.offset_data)


def _text(stream: BinaryIO, name: str, size: int, start: int) -> bytes | None:
    """The content of a text file in a tar; None of another file."""
    return os.pread(stream.fileno(), size, start) if _is_text(name, size) else None


def _is_text(name: str, size: int) -> bool:
    return size <= _MAX_TEXT and name.lower().endswith(TEXTS)


def _in_folder(entry: os.DirEntry[str]) -> ByteRange | None:
    with contextlib.suppress(OSError):
        status = entry.stat()
        return (status.st_size, 0) if stat.S_ISREG(status.st_mode) else None
    return None


def _file(path: str) -> bytes | None:
    """The content of a regular file; None if it is larger than a caption."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            content = os.read(handle, _PAGE)
            while _PAGE <= len(content) <= _MAX_TEXT and (more := os.read(handle, _MAX_TEXT)):
                content += more
            return content if len(content) <= _MAX_TEXT else None
        finally:
            os.close(handle)
    return None
