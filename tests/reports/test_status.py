import json
import os
import platform
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.status_command import command
from bench.matrix.heartbeat import Heartbeat, HeartbeatState, is_locked, read_heartbeat
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import Failure
from bench.matrix.store import Store

from .records_maker import cell_of, key_for, write_evals, write_training


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A done, a failed and an unsupported cell, and four others."""
    store = Store.create(tmp_path / "out")
    cells = [cell_of("badnet", "clip", seed) for seed in range(6)]
    store.write_request("q", RequestRecord.of({"cells": [*cells, cell_of("wanet", "clip", 0, unsupported="no warping")]}))
    write_training(store, "badnet", "clip", 0)
    write_evals(store, "badnet", "clip", 0, (0.9, 0.8, 0.7, 0.6))
    store.write_failure(
        key_for("badnet", "clip", 1), Failure.of({"stage": "train", "error": "ValueError: no", "traceback": ""})
    )
    return store


def _said(store: Store) -> list[str]:
    done = CliRunner().invoke(command, ["--out", str(store.root)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output.splitlines()


def test_states(store: Store) -> None:
    running, mute, dead, begun = (key_for("badnet", "clip", seed) for seed in (2, 3, 4, 5))
    beat = HeartbeatState("far", 7, since=1000, at=1060, share=0.5, first=0.25)
    store.lock(dead).acquire()  # let go at once, as nobody keeps it
    store.heartbeat(dead).write_text(json.dumps(vars(beat)))
    for key in (dead, begun):
        store.run_dir(key).mkdir(parents=True)
        (store.run_dir(key) / "checkpoint.pt").touch()
    name = "clip · badnet · scenes · seed"
    with store.lock(running), store.lock(mute), Heartbeat(store.heartbeat(running)) as heart:
        heart.stage("selecting pairs")
        heart.step(0.25)
        heart.stage("train")
        head, *lines = _said(store)
        assert head == "7 cells: 1 done, 2 running, 1 failed, 2 waiting, 1 unsupported"
        since = time.strftime("%Y-%m-%d %H:%M")[:-3]
        holder = f"{platform.node()} pid {os.getpid()}"
        assert [line for line in lines if line.startswith(f"running      {name} 2: train 25%, {holder} since {since}")]
        assert f"running      {name} 3: no heartbeat yet" in lines
        assert f"failed       {name} 1: train: ValueError: no" in lines
        assert f"waiting      {name} 4: far pid 7 stopped 50%; will resume from its checkpoint" in lines
        assert f"waiting      {name} 5: interrupted; will resume from its checkpoint" in lines
        assert len(lines) == 5
    assert _said(store)[0] == "7 cells: 1 done, 1 failed, 4 waiting, 1 unsupported"
    assert read_heartbeat(store, running) is None


def test_time_left() -> None:
    """A quarter of the training took a minute, so the half that is left takes two."""
    assert HeartbeatState("h", 1, since=0, at=60, share=0.5, first=0.25).seconds_left == 120
    assert HeartbeatState("h", 1, since=0, at=60, share=0.25, first=0.25).seconds_left is None
    assert HeartbeatState("h", 1, since=0, at=60).seconds_left is None


def test_where_locks_cannot_be_tried_the_last_beat_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_for("badnet", "clip", 2)
    with store.lock(key):
        pass

    def refuse(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "lock", refuse)
    assert not is_locked(store, key)
    for age, held in ((0, True), (3600, False)):
        store.heartbeat(key).write_text(json.dumps(vars(HeartbeatState("h", 1, since=0, at=time.time() - age))))
        assert is_locked(store, key) is held


BEFORE_TIME = '{"host": "h", "pid": 1, "since": -1e300, "at": 1}'


@pytest.mark.parametrize("content", ["", "[]", '{"host": 1}', "{" * 10**5, BEFORE_TIME, BEFORE_TIME.replace("-", "")])
def test_a_damaged_heartbeat_is_none(store: Store, content: str) -> None:
    (store.root / "locks").mkdir()
    store.heartbeat("k").write_text(content)
    assert read_heartbeat(store, "k") is None
