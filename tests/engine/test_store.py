import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from filelock import Timeout

from bench.canonical import digest, without_nulls
from bench.disk import atomic_write
from bench.errors import UserError
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import EvalRecord, Failure, RunRecord
from bench.matrix.store import SCHEMA, Store, read_json, write_json

from .small import raw

SPEC = {"defense": {"name": "clip", "source": None}, "seed": 0}
KEY = digest(without_nulls(SPEC))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def _python(code: str, *arguments: object) -> int:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], check=False).returncode


def test_records_come_back(store: Store) -> None:
    store.write_run(KEY, RunRecord.of({"spec": SPEC, "curves": [{"loss": 1.5}]}))
    store.write_eval("k", "asr", "e", EvalRecord.of({"measurements": []}))
    store.write_failure("k", Failure.of({"error": "ü"}))
    again = Store.open(store.root)
    assert raw(again.run_record(KEY)) == {"schema": SCHEMA, "run_key": KEY, "spec": SPEC, "curves": [{"loss": 1.5}]}
    assert raw(again.eval_record("k", "asr", "e")) == {"schema": SCHEMA, "run_key": "k", "eval_key": "e", "measurements": []}
    assert raw(again.failure("k"))["error"] == "ü"
    again.clear_failure("k")
    again.clear_failure("k")
    assert again.failure("k") is None
    assert again.eval_record("k", "asr", "other") is None
    assert again.run_record("other") is None
    assert not list(store.root.rglob("*.tmp"))


def test_a_writer_that_dies_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    code = """
        import os, sys
        from pathlib import Path
        from bench.disk import atomic_write
        with atomic_write(Path(sys.argv[1])) as stream:
            stream.write(b'{"a": 2')
            stream.flush()
            os._exit(9)
    """
    assert _python(code, path) == 9
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("existing", [True, False])
def test_a_writer_that_raises_leaves_nothing_behind(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "folder" / "run.json"
    if existing:
        write_json(path, {"a": 1})

    def fail_within() -> None:
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        fail_within()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert [file.name for file in path.parent.iterdir()] == ["run.json"] * existing
    assert read_json(path) == ({"a": 1} if existing else None)


def test_nothing_is_seen_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with atomic_write(path) as stream:
        stream.write(b"{}")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"{}"


def test_a_record_cut_anywhere_counts_as_none(store: Store) -> None:
    store.write_run(KEY, RunRecord.of({"spec": SPEC, "name": "ü", "values": [1, 2]}))
    path = store.run_dir(KEY) / "run.json"
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        assert store.run_record(KEY) is None
    path.write_bytes(whole)
    assert store.run_record(KEY) is not None


def test_the_key_of_a_record_follows_from_its_spec(store: Store) -> None:
    old = digest({"engine": 1, **without_nulls(SPEC)})
    for schema, key in ((SCHEMA, KEY), (1, old)):
        write_json(store.run_dir(key) / "run.json", {"schema": schema, "run_key": key, "spec": SPEC})
        assert store.run_record(key) is not None
        write_json(store.run_dir(key) / "run.json", {"schema": schema, "run_key": key, "spec": {**SPEC, "seed": 1}})
        assert store.run_record(key) is None
        assert "run_key: is " in store.damaged[f"runs/{key}/run.json"]
    write_json(store.run_dir(KEY) / "run.json", {"schema": 1, "run_key": KEY, "spec": SPEC})
    assert store.run_record(KEY) is None


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 40, b"[]", b"null", b"3", b"\xff\xfe{}", b"{}", b'{"schema": 1, "run_key": "x"}']
)
def test_what_is_no_record_counts_as_none(store: Store, content: bytes) -> None:
    path = store.run_dir("k") / "run.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert store.run_record("k") is None


@pytest.mark.parametrize("record", [{"schema": SCHEMA + 1, "run_key": "k"}, {"schema": "next", "id": "k"}])
def test_a_record_of_an_unknown_schema_is_left_alone(store: Store, record: dict[str, object]) -> None:
    write_json(store.run_dir("k") / "run.json", record)
    with pytest.raises(UserError, match=r"run\.json: schema (3|'next') is not known"):
        store.run_record("k")


def test_a_store_of_an_older_schema_is_read_and_not_written_to(tmp_path: Path) -> None:
    write_json(tmp_path / "store.json", {"schema": 1})
    key = digest({"engine": 1, **without_nulls(SPEC)})
    write_json(tmp_path / "runs" / key / "run.json", {"schema": 1, "run_key": key, "spec": SPEC})
    with pytest.raises(UserError, match=r"schema 1, made by an earlier version .* choose another --out"):
        Store.create(tmp_path)
    store = Store.open(tmp_path)
    assert store.schema == 1
    assert raw(store.run_record(key)) == {"schema": 1, "run_key": key, "spec": SPEC}


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Store.open(tmp_path / "none")
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(UserError, match="not writable"):
            Store.create(path)
    Store.create(tmp_path / "a" / "b")
    Store.create(tmp_path / "a" / "b")
    assert json.loads((tmp_path / "a/b/store.json").read_text()) == {"schema": SCHEMA}
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == ["store.json"]
    write_json(tmp_path / "a/b/store.json", {"schema": 99})
    for opened in (Store.open, Store.create):
        with pytest.raises(UserError, match=r"store\.json: schema 99 is not known"):
            opened(tmp_path / "a" / "b")


def test_a_request_is_written_once(store: Store) -> None:
    store.write_request("q", RequestRecord.of({"cells": []}))
    before = (store.root / "requests/q.json").stat().st_mtime_ns
    time.sleep(0.01)
    store.write_request("q", RequestRecord.of({"cells": []}))
    assert (store.root / "requests/q.json").stat().st_mtime_ns == before


def _hold(root: Path, key: str, held: object, seconds: float) -> None:
    with Store(root).lock(key):
        held.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


def test_a_lock_excludes_other_processes_and_dies_with_its_holder(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold, args=(store.root, "k", held, 60))
    holder.start()
    assert held.wait(60)
    with pytest.raises(Timeout):
        store.lock("k").acquire(timeout=0)
    with store.lock("another").acquire(timeout=0):
        pass
    os.kill(int(holder.pid or 0), 9)
    holder.join()
    with store.lock("k").acquire(timeout=5):
        pass


def test_a_damaged_request_is_written_again(store: Store) -> None:
    cell = {"run_key": "k", "evaluators": [{"name": "asr"}]}
    store.write_request("q", RequestRecord.of({"cells": [cell]}))
    path = store.root / "requests" / "q.json"
    whole = path.read_bytes()
    for content in (
        b"",
        whole[:-9],
        whole.replace(b'"run_key"', b'"key"'),
        whole.replace(b"[", b"7,", 1).replace(b"]", b"", 1),
    ):
        path.write_bytes(content)
        assert store.requests() == []
        store.write_request("q", RequestRecord.of({"cells": [cell]}))
        assert path.read_bytes() == whole
    assert [request.dump()["cells"] for request in store.requests()] == [[cell]]


@pytest.mark.parametrize("content", ["", "[1]", '{"schema": '])
def test_a_damaged_marker_is_told_from_a_later_one(store: Store, content: str) -> None:
    (store.root / "store.json").write_text(content)
    with pytest.raises(UserError, match=r"store\.json is damaged; delete it"):
        Store.create(store.root)
    (store.root / "store.json").unlink()
    Store.create(store.root)
    assert (read_json(store.root / "store.json") or {}) == {"schema": SCHEMA}


def test_a_record_of_another_cell_is_none_of_this_one(store: Store) -> None:
    for run, key in (("k", "other"), ("other", "e")):
        store.write_eval("k", "asr", "e", EvalRecord.of({"measurements": []}))
        path = store.run_dir("k") / "evals" / "asr-e.json"
        path.write_text(json.dumps({**(read_json(path) or {}), "run_key": run, "eval_key": key}))
        assert store.eval_record("k", "asr", "e") is None


def test_a_file_or_folder_that_is_in_the_way_is_named(store: Store) -> None:
    (store.root / "runs").write_text("")
    (store.root / "locks").write_text("")
    (store.root / "requests" / "q.json").mkdir(parents=True)
    assert store.run_record("k") is None
    for action, word in (
        (lambda: store.write_run("k", RunRecord.of({})), "runs/k"),
        (lambda: store.lock("k"), "locks"),
        (lambda: store.write_request("q", RequestRecord.of({})), "requests"),
    ):
        with pytest.raises(UserError, match=rf"out/{word}: not writable \(.*then run the same command to resume"):
            action()
    assert not list(store.root.rglob("*.tmp"))
