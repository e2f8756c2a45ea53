"""The results folder: JSON records written once and atomically, weights, checkpoints, locks.

store.json                      the schema version
requests/KEY.json               the matrices that were asked for
runs/KEY/run.json               a trained cell
runs/KEY/evals/NAME-KEY.json    what an evaluator measured on it
runs/KEY/failure.json           why it failed the last time
runs/KEY/poison.json            the poison manifest
runs/KEY/scores.safetensors     how suspicious the defense finds each training pair, where it scores them
runs/KEY/model.safetensors      weights; checkpoint.pt and checkpoint.previous.pt while it trains
locks/KEY.lock                  held by the process that works on a cell; KEY.json beside it says who that is
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock

from bench.canonical import digest, without_nulls
from bench.errors import UserError
from bench.matrix.reading import Damaged, read_object
from bench.matrix.schema import READABLE, SCHEMA, EvalRecord, Failure, Part, RequestRecord, RunRecord

Record = TypeVar("Record", bound=Part)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}


class Store:
    """`damaged` names the records that could not be read, by their path in the folder, and says why."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: dict[str, str] = {}
        self._forgives = False

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open a results folder for writing, making it if need be.

        Raises UserError when that cannot be, or when it holds records of an older schema.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise UserError(f"--out {root}: cannot write there ({error.strerror}); choose another folder") from None
        store = cls.open(root)
        if not (root / "store.json").exists():
            write_json(root / "store.json", {"schema": SCHEMA})
        store.require_current()
        return store

    def require_current(self) -> None:
        """Raises UserError where the records are of an older schema: nothing is added to them."""
        if self.schema != SCHEMA:
            raise UserError(
                f"--out {self.root}: its records are of schema {self.schema}, made by an earlier version of bench, and cannot "
                "be added to; `bench report` still reads them, for new runs choose another --out"
            )

    @property
    def schema(self) -> int:
        """Of its records; the newest where it does not say."""
        return int((read_json(self.root / "store.json") or {}).get("schema", SCHEMA))

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open a results folder for reading. Raises UserError when there is none, or one of an unknown schema."""
        if not root.is_dir():
            raise UserError(f"--out {root}: no such folder; `bench run --out {root}` makes it")
        marker = root / "store.json"
        if marker.exists():
            content = read_json(marker)
            if content is None:
                raise UserError(f"{marker} is damaged; delete it, then the same command goes on")
            schema = content.get("schema")
            if schema not in READABLE:
                raise UserError(
                    f"{marker}: schema {schema!r} is not known to this version, which reads up to {SCHEMA}; "
                    "choose another --out or the version of bench that wrote it"
                )
        return cls(root)

    def for_reports(self) -> Store:
        """The same folder, where records of an unknown schema, or that may not be read, count as damaged."""
        store = Store(self.root)
        store.damaged, store._forgives = self.damaged, True
        return store

    def run_dir(self, key: str) -> Path:
        return self.root / "runs" / key

    def run_record(self, key: str) -> RunRecord | None:
        """The record of a trained cell, or None when there is no valid one."""
        return self._read(self.run_dir(key) / "run.json", RunRecord, run_key=key)

    def eval_record(self, run: str, name: str, key: str) -> EvalRecord | None:
        return self._read(self._eval_path(run, name, key), EvalRecord, run_key=run, eval_key=key)

    def failure(self, key: str) -> Failure | None:
        return self._read(self.run_dir(key) / "failure.json", Failure, run_key=key)

    def write_run(self, key: str, record: RunRecord) -> None:
        _write(self.run_dir(key) / "run.json", record, run_key=key)

    def write_eval(self, run: str, name: str, key: str, record: EvalRecord) -> None:
        _write(self._eval_path(run, name, key), record, run_key=run, eval_key=key)

    def write_failure(self, key: str, record: Failure) -> None:
        _write(self.run_dir(key) / "failure.json", record, run_key=key)

    def clear_failure(self, key: str) -> None:
        (self.run_dir(key) / "failure.json").unlink(missing_ok=True)

    def write_request(self, key: str, request: RequestRecord) -> None:
        path = self.root / "requests" / f"{key}.json"
        if self._read(path, RequestRecord) is None:
            _write(path, request)

    def requests(self) -> list[RequestRecord]:
        """What was asked for, in a fixed order."""
        return self._folder(self.root / "requests", RequestRecord)

    def evaluations(self, run: str) -> list[EvalRecord]:
        """Everything that was measured on a cell, in a fixed order."""
        return self._folder(self.run_dir(run) / "evals", EvalRecord, run_key=run)

    def lock(self, key: str) -> FileLock:
        """An exclusive lock on one cell; the operating system frees it when its holder dies."""
        path = self.root / "locks" / f"{key}.lock"
        with told(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def heartbeat(self, key: str) -> Path:
        """Where the holder of a cell's lock says who it is and how far it is."""
        return self.root / "locks" / f"{key}.json"

    def sweep(self, key: str) -> None:
        """Delete what writers that died have left of a cell; the caller holds its lock."""
        for path in self.run_dir(key).rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _folder(self, folder: Path, kind: type[Record], **names: str) -> list[Record]:
        found = (self._read(path, kind, **names) for path in sorted(folder.glob("*.json")))
        return [record for record in found if record]

    def _read(self, path: Path, kind: type[Record], **names: str) -> Record | None:
        """A record of that kind and of those keys, or None. Raises UserError for one of an unknown schema."""
        name = str(path.relative_to(self.root))
        self.damaged.pop(name, None)
        try:
            content = read_object(path)
            if content is None:
                return None
            self._check_schema(path, content)
            record = kind.of(content)
            _check_keys(content, names)
            if kind is RunRecord:
                _check_identity(content)
            return record
        except Damaged as damage:
            self.damaged[name] = str(damage)
        except OSError as error:
            if not self._forgives:
                raise
            self.damaged[name] = f"cannot be read ({error.strerror})"
        return None

    def _check_schema(self, path: Path, record: dict[str, Any]) -> None:
        schema = record.get("schema")
        if type(schema) is int and schema in READABLE:
            return
        if schema is not None and not self._forgives:
            raise UserError(f"{path}: schema {schema!r} is not known to this version; choose another --out")
        raise Damaged(f"is {schema!r:.40}; this version reads up to {SCHEMA}", "schema")

    def _eval_path(self, run: str, name: str, key: str) -> Path:
        return self.run_dir(run) / "evals" / f"{name}-{key}.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when the file is missing or is not one (a record cut short counts as none)."""
    try:
        return read_object(path)
    except Damaged:
        return None


def _check_keys(record: dict[str, Any], names: dict[str, str]) -> None:
    for name, key in names.items():
        if record.get(name) != key:
            raise Damaged(f"is {record.get(name)!r:.40}, and this is the place of {key}", name)


def _check_identity(record: dict[str, Any]) -> None:
    """The key of a run follows from its spec; in schema 1 from the spec and the number of the only engine there was."""
    spec = without_nulls(record.get("spec") or {})
    own = digest({"engine": 1, **spec} if record["schema"] == 1 else spec)
    if own != record["run_key"]:
        raise Damaged(f"is {record['run_key']}, and the run of its spec has {own}", "run_key")


def _write(path: Path, record: Part, **names: str) -> None:
    write_json(path, {"schema": SCHEMA, **names, **record.dump()})


def write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with atomic(path) as stream:
        stream.write(text.encode())


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` whole, after it reached the disk, or not at all.

    Raises UserError where the disk is full or must not be written to.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    with told(path.parent):
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
def told(folder: Path) -> Iterator[None]:
    """Turn the refusal of a disk to take what is written to `folder` into a UserError."""
    try:
        yield
    except Exception as error:
        # PyTorch raises an error of its own while it handles the one of the stream.
        for cause in (error, error.__context__):
            number = cause.errno if isinstance(cause, OSError) else None
            if number in _FULL:
                raise UserError(
                    f"{folder}: the disk is full ({_free(folder)} free); make room, then the same command goes on"
                ) from error
            if number in _FORBIDDEN:
                why = os.strerror(number or 0)
                raise UserError(
                    f"{folder}: cannot write there ({why}); make it a folder that takes files, then the same command goes on"
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
