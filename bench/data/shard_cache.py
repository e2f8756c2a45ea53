"""The index of each shard, made once and cached until the shard changes; many are made in processes side by side."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.cores import available_cores
from bench.data.samples import Index, ShardNotes, TableReader
from bench.data.shard_index import of_folder, of_tar, probe
from bench.errors import UserError

_FORMAT = 2
_MANY = 24
"""Shards for which a process is worth its start of two seconds."""
_MOST = 8
"""Processes side by side, of half a GB each."""


def indices(paths: Sequence[Path], table: TableReader, stamp: object, cache: Path | None) -> list[Index]:
    """The index of each shard.

    Parameters
    ----------
    paths : sequence of Path
        Tars, or folders of files.
    table : callable
        Reads the table that the images were downloaded from; returns None if there is none.
    stamp : object
        Plain data that changes with the table. A change only counts for shards whose captions were looked up there.
    cache : Path or None
        Where indices are cached.
    """
    if cache is None:
        return [_make(path, table) for path in paths]
    known = [_load(path, stamp, cache) for path in paths]
    lacking = [path for path, index in zip(paths, known, strict=True) if index is None]
    processes = min(_MOST, available_cores(), len(lacking) // _MANY)
    if processes > 1:
        _make_apart([lacking[start::processes] for start in range(processes)], stamp, cache)
    return [index or _cached(path, table, stamp, cache) for path, index in zip(paths, known, strict=True)]


def notes_of(index: Index) -> ShardNotes:
    return ShardNotes(*json.loads(str(index.notes)))


def _make(path: Path, table: TableReader) -> Index:
    return of_folder(path, table) if path.is_dir() else of_tar(path, table)


def _cached(path: Path, table: TableReader, stamp: object, cache: Path) -> Index:
    index = _load(path, stamp, cache)
    if index is None:
        found = _stamp(path)
        index = _make(path, table)
        _store(index, path, found, stamp, cache)
    return index


def _make_apart(parts: Sequence[Sequence[Path]], stamp: object, cache: Path) -> None:
    """Make and cache the indices of each part in a process of its own; what a process leaves out is not there afterwards."""
    command = [sys.executable, "-P", "-m", "bench.data.shard_cache", os.fspath(cache), json.dumps(stamp)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for part in parts:
            with tempfile.TemporaryFile() as names:
                names.write(b"\0".join(map(os.fsencode, part)))
                names.seek(0)
                processes.append(subprocess.Popen(command, stdin=names, env=environment, start_new_session=True))
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _worker(cache: Path, stamp: object) -> None:
    """Make and cache the indices of the shards named in stdin that need no table and can be read."""
    gc.disable()  # no object here is part of a cycle, and looking for cycles takes a quarter of the time
    for name in sys.stdin.buffer.read().split(b"\0"):
        path = Path(os.fsdecode(name))
        with contextlib.suppress(UserError, OSError):
            found = _stamp(path)
            index = _make(path, lambda: None)
            if not notes_of(index).tabled:
                _store(index, path, found, stamp, cache)


def _file(path: Path, cache: Path) -> Path:
    return cache / "shards" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]}.npz"


def _stamp(path: Path) -> str:
    """Changes with a shard: a tar's size and time, a folder's time."""
    status = path.stat()
    return json.dumps([_FORMAT, [status.st_size if path.is_file() else 0, status.st_mtime_ns]])


def _load(path: Path, stamp: object, cache: Path) -> Index | None:
    """The cached index of a shard; None if there is none, it is damaged, or the shard has changed."""
    with contextlib.suppress(Exception), np.load(_file(path, cache), allow_pickle=False) as stored:
        if str(stored["stamp"]) == _stamp(path):
            index = Index(*(stored[column] for column in Index._fields))
            notes = notes_of(index)
            current = not notes.tabled or str(stored["table"]) == json.dumps(stamp)
            if current and all(probe(path, each[0]) == each for each in notes.probes):
                return index
    return None


def _store(index: Index, path: Path, found: str, stamp: object, cache: Path) -> None:
    """Cache the index of a shard that had the stamp `found` before it was read; an unwritable cache is ignored."""
    file = _file(path, cache)
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, stamp=np.array(found), table=np.array(json.dumps(stamp)), **index._asdict())
        os.replace(draft, file)
    except OSError:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    _worker(Path(sys.argv[1]), json.loads(sys.argv[2]))
