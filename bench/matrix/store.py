"""The results folder: immutable JSON records, weights, checkpoints, locks.

store.json                      the schema version
requests/KEY.json               the requested matrices
runs/KEY/run.json               a trained cell
runs/KEY/evals/NAME-KEY.json    what an evaluator measured on it
runs/KEY/evals/NAME-KEY.npz     what each probe and test image was given, where the evaluator says
runs/KEY/failure.json           the last failure, with its traceback
runs/KEY/poison.json            the poison manifest
runs/KEY/scores.safetensors     how suspicious the defense finds each training pair, if it scores them
runs/KEY/model.safetensors      weights; checkpoint.pt and checkpoint.previous.pt during training
locks/KEY.lock                  held by the process that runs a cell; its heartbeat is KEY.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from bench.canonical import digest, without_nulls
from bench.disk import atomic_write, disk_errors
from bench.errors import UserError
from bench.matrix.reading import Damaged, read_object
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import READABLE, SCHEMA, EvalRecord, Failure, RecordModel, RunRecord

Record = TypeVar("Record", bound=RecordModel)


class Store:
    """A results folder.

    Attributes
    ----------
    root : Path
    damaged : dict of str to str
        Path in the folder, and the reason, of each record that could not be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: dict[str, str] = {}
        self._lenient = False

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open a results folder for writing; it is created if missing.

        Raises UserError if it is not writable, or holds records of an older schema.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise UserError(f"--out {root}: not writable ({error.strerror}); choose another folder") from None
        store = cls.open(root)
        if not (root / "store.json").exists():
            write_json(root / "store.json", {"schema": SCHEMA})
        store.require_current()
        return store

    def require_current(self) -> None:
        """Raise UserError if the records are of an older schema, to which none can be added."""
        if self.schema != SCHEMA:
            raise UserError(
                f"--out {self.root}: its records are of schema {self.schema}, made by an earlier version of bench, and cannot "
                "be added to; `bench report` still reads them, for new runs choose another --out"
            )

    @property
    def schema(self) -> int:
        """The schema version of its records; the current one if it has no store.json."""
        return int((read_json(self.root / "store.json") or {}).get("schema", SCHEMA))

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open a results folder for reading. Raises UserError if it does not exist or has an unknown schema."""
        if not root.is_dir():
            raise UserError(f"--out {root}: no such folder; `bench run --out {root}` creates it")
        marker = root / "store.json"
        if marker.exists():
            content = read_json(marker)
            if content is None:
                raise UserError(f"{marker} is damaged; delete it, then run the same command to resume")
            schema = content.get("schema")
            if schema not in READABLE:
                raise UserError(
                    f"{marker}: schema {schema!r} is not known to this version, which reads up to {SCHEMA}; "
                    "choose another --out or the version of bench that wrote it"
                )
        return cls(root)

    def for_reports(self) -> Store:
        """The same folder, read leniently: records of an unknown schema or without permission count as damaged."""
        store = Store(self.root)
        store.damaged, store._lenient = self.damaged, True
        return store

    def run_dir(self, key: str) -> Path:
        return self.root / "runs" / key

    def run_record(self, key: str) -> RunRecord | None:
        """The record of a trained cell; None without a valid one."""
        return self._read(self.run_dir(key) / "run.json", RunRecord, run_key=key)

    def eval_record(self, run: str, name: str, key: str) -> EvalRecord | None:
        return self._read(self._eval_path(run, name, key), EvalRecord, run_key=run, eval_key=key)

    def failure(self, key: str) -> Failure | None:
        return self._read(self.run_dir(key) / "failure.json", Failure, run_key=key)

    def write_run(self, key: str, record: RunRecord) -> None:
        _write(self.run_dir(key) / "run.json", record, run_key=key)

    def write_eval(self, run: str, name: str, key: str, record: EvalRecord, predictions: bytes | None = None) -> None:
        """Write an evaluation; its predictions come first, so that no record is without them."""
        if predictions is not None:
            with atomic_write(self.predictions(run, name, key)) as stream:
                stream.write(predictions)
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
        """All requests, sorted by key."""
        return self._folder(self.root / "requests", RequestRecord)

    def evaluations(self, run: str) -> list[EvalRecord]:
        """All evaluations of a cell, sorted by file name."""
        return self._folder(self.run_dir(run) / "evals", EvalRecord, run_key=run)

    def predictions(self, run: str, name: str, key: str) -> Path:
        return self._eval_path(run, name, key).with_suffix(".npz")

    def lock(self, key: str) -> FileLock:
        """An exclusive lock on one cell; the operating system releases it when its holder dies."""
        path = self.root / "locks" / f"{key}.lock"
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def heartbeat(self, key: str) -> Path:
        """The heartbeat file of the process that holds a cell's lock."""
        return self.root / "locks" / f"{key}.json"

    def remove_temporaries(self, key: str) -> None:
        """Delete unfinished files of killed writers; the caller holds the cell's lock."""
        for path in self.run_dir(key).rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _folder(self, folder: Path, kind: type[Record], **names: str) -> list[Record]:
        found = (self._read(path, kind, **names) for path in sorted(folder.glob("*.json")))
        return [record for record in found if record]

    def _read(self, path: Path, kind: type[Record], **names: str) -> Record | None:
        """The record at `path` with the keys in `names`; None without a valid one. Raises UserError for an unknown schema."""
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
            if not self._lenient:
                raise
            self.damaged[name] = f"cannot be read ({error.strerror})"
        return None

    def _check_schema(self, path: Path, record: dict[str, Any]) -> None:
        schema = record.get("schema")
        if type(schema) is int and schema in READABLE:
            return
        if schema is not None and not self._lenient:
            raise UserError(f"{path}: schema {schema!r} is not known to this version; choose another --out")
        raise Damaged(f"is {schema!r:.40}; this version reads up to {SCHEMA}", "schema")

    def _eval_path(self, run: str, name: str, key: str) -> Path:
        return self.run_dir(run) / "evals" / f"{name}-{key}.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing or damaged."""
    try:
        return read_object(path)
    except Damaged:
        return None


def _check_keys(record: dict[str, Any], names: dict[str, str]) -> None:
    for name, key in names.items():
        if record.get(name) != key:
            raise Damaged(f"is {record.get(name)!r:.40}, expected {key}", name)


def _check_identity(record: dict[str, Any]) -> None:
    """Raise Damaged unless the run key is the digest of the spec; schema 1 leaves out the engine version, which was 1."""
    spec = without_nulls(record.get("spec") or {})
    own = digest({"engine": 1, **spec} if record["schema"] == 1 else spec)
    if own != record["run_key"]:
        raise Damaged(f"is {record['run_key']}, but its spec has the key {own}", "run_key")


def _write(path: Path, record: RecordModel, **names: str) -> None:
    write_json(path, {"schema": SCHEMA, **names, **record.dump()})


def write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with atomic_write(path) as stream:
        stream.write(text.encode())
