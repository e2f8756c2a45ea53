"""Atomic writes, and disk errors that a user can act on."""

from __future__ import annotations

import errno
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for an atomic binary write: it gets the whole content, flushed to disk, or is left as it was.

    Raises UserError if the disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    with disk_errors(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a failure to write to `folder` (disk full, no permission) into a UserError."""
    try:
        yield
    except Exception as error:
        # torch.save replaces the stream's OSError with an error of its own, which has it as context.
        for cause in (error, error.__context__):
            number = cause.errno if isinstance(cause, OSError) else None
            if number in _FULL:
                raise UserError(
                    f"{folder}: the disk is full ({_free(folder)} free); make room, then run the same command to resume"
                ) from error
            if number in _FORBIDDEN:
                why = os.strerror(number or 0)
                raise UserError(
                    f"{folder}: not writable ({why}); make it a writable folder, then run the same command to resume"
                ) from error
        raise


def _free(folder: Path) -> str:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
