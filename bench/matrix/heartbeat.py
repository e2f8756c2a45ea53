"""Heartbeats: which process runs a cell, and its progress, in a small file beside the cell's lock."""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from filelock import Timeout
from pydantic import Field, TypeAdapter

from bench.matrix.store import Store, read_json

_EVERY_SECONDS = 5.0
Moment = Annotated[float, Field(ge=0, lt=2**36)]


@dataclass
class HeartbeatState:
    """What a heartbeat says; times in seconds since 1970.

    `share` is the fraction of the training that is done, `first` the fraction when this process began it.
    """

    host: str
    pid: int
    since: Moment
    at: Moment
    stage: str = "train"
    share: float | None = None
    first: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end of training; None before a second step."""
        if self.share is None or self.first is None or self.share <= self.first:
            return None
        return (self.at - self.since) / (self.share - self.first) * (1 - self.share)


class Heartbeat:
    """Writes the file while a cell is locked; errors in writing are ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        now = time.time()
        self._beat = HeartbeatState(platform.node(), os.getpid(), now, now)
        self._written = 0.0

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def stage(self, name: str) -> None:
        self._beat.stage = name
        self._write()

    def step(self, share: float) -> None:
        self._beat.stage, self._beat.share = "train", share
        if self._beat.first is None:
            self._beat.first, self._beat.since = share, time.time()
        if time.monotonic() - self._written > _EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        self._beat.at = time.time()
        draft = self._path.with_name(f".{self._path.name}.{self._beat.host}.{self._beat.pid}.tmp")
        with suppress(OSError):
            draft.write_text(json.dumps(asdict(self._beat)))
            draft.replace(self._path)


def read_heartbeat(store: Store, key: str) -> HeartbeatState | None:
    """The last heartbeat of a cell, of a dead process too."""
    with suppress(ValueError):
        return TypeAdapter(HeartbeatState).validate_python(read_json(store.heartbeat(key)))
    return None


def is_locked(store: Store, key: str) -> bool:
    """Whether a process holds the lock of a cell; in a read-only folder, whether its heartbeat is recent."""
    if not store.heartbeat(key).with_suffix(".lock").exists():
        return False
    try:
        with store.lock(key).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        beat = read_heartbeat(store, key)
        return beat is not None and time.time() - beat.at < 12 * _EVERY_SECONDS
