"""Zip and tar archives: written with the same bytes for the same files, and unpacked as hostile input.

Of an archive only regular files at the paths of `layout` are unpacked, each into a new file of limited size; whatever else it
holds (links, devices, paths out of the folder, names that differ in case alone) is a reason to refuse the whole.
"""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from bench.disk import atomic_write, disk_errors
from bench.errors import UserError
from bench.submission.flaw import Flaw
from bench.submission.layout import MOST_BYTES, MOST_FILES, limit_of

Member = tuple[str, IO[bytes]]
"""Path and content of a regular file."""

_CHUNK = 2**20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, RuntimeError, EOFError, ValueError, OSError)


def write_archive(to: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write files, in the order of their paths. Raises UserError for a name that is neither .zip nor .tar."""
    _, write = _format_of(to)
    with atomic_write(to) as stream:
        write(stream, {path: files[path] for path in sorted(files)})


def unpack(archive: Path, to: Path) -> None:
    """Unpack an archive into an empty folder.

    Raises
    ------
    UserError
        If it is no archive, is damaged, or has another member than the files of a submission; names the member.
    """
    members, _ = _format_of(archive)
    if not archive.is_file():
        raise UserError(f"{archive}: no such file")
    if archive.stat().st_size > MOST_BYTES:
        raise UserError(f"{archive}: larger than {MOST_BYTES:,} bytes")
    try:
        with disk_errors(to):
            _unpack_all(members(archive), to)
    except _DAMAGE as error:
        raise UserError(f"{archive}: not a sound archive ({error})") from None


def _unpack_all(members: Iterator[Member], to: Path) -> None:
    seen: set[str] = set()
    left = MOST_BYTES
    for path, stream in members:
        limit = limit_of(path)
        if limit is None:
            raise Flaw(_shown(path), "not a file of a submission")
        if path.lower() in seen:
            raise Flaw(path, "in the archive twice, or but for case")
        seen.add(path.lower())
        if len(seen) > MOST_FILES:
            raise Flaw(path, f"one file more than the {MOST_FILES:,} that an archive may have")
        left -= _unpack(path, stream, to, min(limit, left))


def _unpack(path: str, stream: IO[bytes], to: Path, limit: int) -> int:
    """Write one file; returns its size. The size that an archive states is not trusted."""
    file, size = to / path, 0
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as target:
        while chunk := stream.read(min(_CHUNK, limit - size + 1)):
            size += len(chunk)
            if size > limit:
                raise Flaw(path, f"unpacks to more than {limit:,} bytes")
            target.write(chunk)
    return size


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            if mode not in (0, stat.S_IFREG) or info.filename != info.orig_filename or info.is_dir():
                raise Flaw(_shown(info.orig_filename), "not a regular file")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise Flaw(_shown(info.filename), "encrypted, or compressed in another way than deflate")
            with opened.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path) -> Iterator[Member]:
    """Only plain entries: an extended header, which could be of any size, is not read."""
    end = archive.stat().st_size
    with archive.open("rb") as stream:
        while any(header := stream.read(tarfile.BLOCKSIZE)):
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise Flaw(_shown(info.name), "not a regular file")
            start = stream.tell()
            following = start + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if not start <= following <= end:
                raise tarfile.ReadError("it ends within a file")
            yield info.name, _Part(stream, info.size)  # type: ignore[misc]
            stream.seek(following)


class _Part:
    """The next bytes of a stream, as a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, count: int) -> bytes:
        found = self._stream.read(min(count, self._left))
        self._left -= len(found)
        return found


def _write_zip(stream: IO[bytes], files: Mapping[str, Path | bytes]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
            with _opened(content) as source, archive.open(info, "w", force_zip64=True) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)


def _write_tar(stream: IO[bytes], files: Mapping[str, Path | bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with _opened(content) as source:
                archive.addfile(info, source)


def _opened(content: Path | bytes) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


_Format = tuple[Callable[[Path], Iterator[Member]], Callable[[IO[bytes], Mapping[str, Path | bytes]], None]]
_FORMATS: dict[str, _Format] = {".zip": (_zip_members, _write_zip), ".tar": (_tar_members, _write_tar)}


def _format_of(archive: Path) -> _Format:
    if archive.suffix not in _FORMATS:
        raise UserError(f"{archive}: an archive of results is a .zip or a .tar")
    return _FORMATS[archive.suffix]


def _shown(path: str) -> str:
    """A hostile path, for an error message."""
    return ascii(path[:80])
