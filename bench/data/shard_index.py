"""Indexes one shard: a folder of files, or a WebDataset tar of the same files, which is never unpacked."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.data.samples import TEXTS, Index, Place, Samples, TableReader, shown
from bench.errors import UserError

_MAX_TEXT = 2**20
"""Bytes of a .txt or .json beside an image; what is longer is no caption."""
_PAGE = 4096
_PROBES = 32
_BAD_TAR = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def of_folder(folder: Path, table: TableReader) -> Index:
    """Raises UserError when the folder cannot be listed. What is wrong with its files is noted."""
    samples, texts = Samples(_file), []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                samples.add(entry.name, partial(_size, entry), entry.path)
                if entry.name.endswith(TEXTS):
                    texts.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): give a folder that you may read") from error
    chosen = texts[:: len(texts) // _PROBES + 1]
    return samples.index(table, probes=[probe(folder, name) for name in chosen])


def probe(folder: Path, name: str) -> list[Any]:
    """A file's name, size and time: they tell that it was written anew where the time of its folder does not."""
    with contextlib.suppress(OSError):
        facts = os.stat(folder / name)
        return [name, facts.st_size, facts.st_mtime_ns]
    return [name, 0, 0]


def of_tar(file: Path, table: TableReader) -> Index:
    """Raises UserError when the file cannot be opened. Why it is no whole tar is noted, and its whole members are read."""
    samples = Samples(lambda content: content)
    try:
        flaw = _members(file, samples)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a file that you may read") from error
    return samples.index(table, flaw)


def _members(file: Path, samples: Samples) -> str:
    """Adds the whole members of a tar. Gives the reason why it is not whole itself, or nothing."""
    length, last = file.stat().st_size, "its beginning"
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                if member.size < 0:
                    return f"it is damaged at byte {member.offset}, after {shown(last)}"
                if member.isfile() and member.offset_data + member.size > length:
                    return f"it ends within {shown(member.name)}"
                last = member.name.removeprefix("./")
                if not member.isdir():
                    samples.add(last, partial(_place, member), _content(tar, member))
            end = tar.offset
    except _BAD_TAR as error:
        return _why(file, f"it cannot be read as a tar after {shown(last)}: {error}")
    with file.open("rb") as stream:
        stream.seek(end)
        rest = stream.read()
    if len(rest) < tarfile.BLOCKSIZE:
        return f"it lacks the end of a tar after {shown(last)}"
    return f"it is damaged at byte {end}, after {shown(last)}" if rest.strip(b"\0") else ""


def _why(file: Path, problem: str) -> str:
    with file.open("rb") as stream:
        compressed = stream.read(8).startswith(_COMPRESSED)
    return "it is compressed, but tars are read in place: unpack it to a plain tar" if compressed else problem


def _place(member: tarfile.TarInfo) -> Place | None:
    return (member.size, member.offset_data) if member.isfile() and not member.issparse() else None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if not member.isfile() or member.size > _MAX_TEXT or not member.name.lower().endswith(TEXTS):
        return None
    stream = tar.extractfile(member)
    return stream.read() if stream else None


def _size(entry: os.DirEntry[str]) -> Place | None:
    with contextlib.suppress(OSError):
        facts = entry.stat()
        return (facts.st_size, 0) if stat.S_ISREG(facts.st_mode) else None
    return None


def _file(path: str) -> bytes | None:
    """What a regular file of a text's size holds."""
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
