"""The decoded images of a data set in one memory-mapped file, made once and read in place by all cells."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock

from bench.api import Images
from bench.data.decoding import PIXELS
from bench.data.files import CachedImages, changed_since
from bench.errors import UserError

FOLDER = "BENCH_PIXELS"
_CHUNK = 256
_BLOCK = 4096


def folder() -> Path | None:
    """The folder named by BENCH_PIXELS; None if there is none, and images are decoded in each process."""
    given = os.environ.get(FOLDER, "")
    return Path(given).expanduser() if given else None


def holds(images: Images) -> bool:
    """Whether such images are kept in a file."""
    return folder() is not None and isinstance(images, CachedImages)


def name(identity: Sequence[object], uids: Sequence[str]) -> str:
    """A file name for the images with these ids of a data set that `identity`, plain data, tells from all others."""
    known = hashlib.sha256(json.dumps([PIXELS, *identity]).encode())
    for start in range(0, len(uids), _BLOCK):
        known.update(json.dumps(list(uids[start : start + _BLOCK])).encode())
    return f"{known.hexdigest()[:24]}.pixels"


def read_from(file: Path, images: CachedImages, on_loaded: Callable[[int], None]) -> None:
    """Let `images` be read from `file` from now on. It is made first if need be, by one process at a time.

    What an interrupted process has decoded is kept.

    Parameters
    ----------
    file : Path
        Holds uint8 (n, 3, side, side); made anew once one of `images.files()` has changed.
    images : CachedImages
        n images.
    on_loaded : callable
        Called with the number of images in each batch that was decoded.

    Raises
    ------
    UserError
        Naming an image that cannot be decoded, or the file if it cannot be written.
    """
    if not len(images):
        return
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_suffix(".lock"))
        lock.acquire()
    try:
        size = len(images) * int(np.prod(images.shape))
        if not file.is_file() or file.stat().st_size != size or changed_since(file, images.files()):
            _make(file, images, on_loaded)
    finally:
        lock.release()
    images.read_from(np.memmap(file, np.uint8, "r", shape=(len(images), *images.shape)))


def _make(file: Path, images: CachedImages, on_loaded: Callable[[int], None]) -> None:
    draft, row = file.with_suffix(".part"), int(np.prod(images.shape))
    if changed_since(draft, images.files()):
        draft.unlink(missing_ok=True)
    with draft.open("ab") as out:
        done = out.tell() // row
        out.truncate(done * row)
        _require_space(file, (len(images) - done) * row)
        on_loaded(done)
        for start in range(done, len(images), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(images)))
            pixels = images.decode(rows)
            with _writing(file):
                out.write(pixels.data)
                out.flush()
                os.fsync(out.fileno())
            on_loaded(len(rows))
    os.replace(draft, file)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{FOLDER}: {file} cannot be written ({error.strerror or error}): name another folder") from error


def _require_space(file: Path, needed: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if needed > free:
        raise UserError(
            f"{FOLDER}={file.parent}: the decoded images need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there: "
            "name a larger disk, or leave it out to decode each image when it is needed"
        )
