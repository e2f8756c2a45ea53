"""The results folder: JSON records written once and atomically, weights, checkpoints, locks.

store.json                      the schema version
requests/KEY.json               the matrices that were asked for
runs/KEY/run.json               a trained cell
runs/KEY/evals/NAME-KEY.json    what an evaluator measured on it
runs/KEY/failure.json           why it failed the last time
runs/KEY/poison.json            the poison manifest
runs/KEY/model.safetensors      weights; checkpoint.pt while it trains
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from bench.errors import UserError

SCHEMA = 1


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open a results folder for writing, making it if need be. Raises UserError when that cannot be."""
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise UserError(f"--out {root}: cannot write there ({error.strerror}); choose another folder") from None
        store = cls.open(root)
        if not (root / "store.json").exists():
            write_json(root / "store.json", {"schema": SCHEMA})
        return store

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open a results folder for reading. Raises UserError when there is none, or one of an unknown schema."""
        if not root.is_dir():
            raise UserError(f"--out {root}: no such folder; `bench run --out {root}` makes it")
        marker = root / "store.json"
        if marker.exists():
            schema = (read_json(marker) or {}).get("schema")
            if schema != SCHEMA:
                raise UserError(
                    f"{marker}: schema {schema!r} is not known to this version, which reads schema {SCHEMA}; "
                    "choose another --out or the version of bench that wrote it"
                )
        return cls(root)

    def run_dir(self, key: str) -> Path:
        return self.root / "runs" / key

    def run_record(self, key: str) -> dict[str, Any] | None:
        """The record of a trained cell, or None when there is no valid one."""
        return self._record(self.run_dir(key) / "run.json", run_key=key)

    def eval_record(self, run: str, name: str, key: str) -> dict[str, Any] | None:
        return self._record(self._eval_path(run, name, key), eval_key=key)

    def failure(self, key: str) -> dict[str, Any] | None:
        return self._record(self.run_dir(key) / "failure.json", run_key=key)

    def write_run(self, key: str, record: dict[str, Any]) -> None:
        write_json(self.run_dir(key) / "run.json", {"schema": SCHEMA, "run_key": key, **record})

    def write_eval(self, run: str, name: str, key: str, record: dict[str, Any]) -> None:
        write_json(self._eval_path(run, name, key), {"schema": SCHEMA, "run_key": run, "eval_key": key, **record})

    def write_failure(self, key: str, record: dict[str, Any]) -> None:
        write_json(self.run_dir(key) / "failure.json", {"schema": SCHEMA, "run_key": key, **record})

    def clear_failure(self, key: str) -> None:
        (self.run_dir(key) / "failure.json").unlink(missing_ok=True)

    def write_request(self, key: str, request: dict[str, Any]) -> None:
        path = self.root / "requests" / f"{key}.json"
        if not path.exists():
            write_json(path, {"schema": SCHEMA, **request})

    def lock(self, key: str) -> FileLock:
        """An exclusive lock on one cell; the operating system frees it when its holder dies."""
        path = self.root / "locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def _eval_path(self, run: str, name: str, key: str) -> Path:
        return self.run_dir(run) / "evals" / f"{name}-{key}.json"

    def _record(self, path: Path, **expected: str) -> dict[str, Any] | None:
        record = read_json(path)
        if record is None or "schema" not in record:
            return None
        if record["schema"] != SCHEMA:
            raise UserError(f"{path}: schema {record['schema']!r} is not known to this version; choose another --out")
        return record if all(record.get(name) == value for name, value in expected.items()) else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when the file is missing or is not one (a record cut short counts as none)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with atomic(path) as stream:
        stream.write(text.encode())


def write_with(path: Path, writer: Callable[[Path], None]) -> None:
    """Let `writer` fill a temporary file beside `path`, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        writer(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` whole, after it reached the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
