"""Runs command lines in processes that are killed; modules are imported once, so that a kill meets work and not imports."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import plugins
from bench.cli import check_command, main, run_command  # noqa: F401  for the processes that are forked from here
from bench.interface import execute  # noqa: F401
from bench.matrix import cell, estimate, expand, local  # noqa: F401

plugins.load()
_OTHER = {"seconds", "pairs_per_second", "timing", "provenance", "finished"}
_FORK = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Kill:
    """After so many seconds of the process's own time; what of the work was on disk then."""

    seconds: float
    found: str


def _run(arguments: list[str], log: Path) -> None:
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(stream, number)
    main(arguments)


def run(arguments: list[str], log: Path, limit: float = math.inf) -> tuple[bool, float]:
    """A command line in a process of its own, killed after `limit` seconds of its own time: whether it was, and the seconds."""
    _FORK.set_forkserver_preload([name for name in sys.modules if name.split(".")[0] == "bench"])
    process = _FORK.Process(target=_run, args=(arguments, log))
    process.start()
    seconds = 0.0
    while process.is_alive():
        with contextlib.suppress(OSError, IndexError):  # it has just ended
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if seconds >= limit:
            process.kill()
        process.join(0.003)
    assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
    return process.exitcode != 0, seconds


def kills(arguments: list[str], whole: Path, out: Path, count: int, seed: int, span: float) -> Iterator[Kill]:
    """Kill `count` times within `span` seconds of a start, and compare with `whole` whenever the matrix is finished.

    A finished folder is followed by a fresh one.
    """
    draw = random.Random(seed)
    number = done = 0
    while done < count:
        folder = out / str(number)
        here = [*arguments, "--out", str(folder)]
        killed = True
        while killed and done < count:
            killed, seconds = run(here, out / "log", draw.uniform(0, span))
            if killed:
                done += 1
                yield Kill(seconds, _found(folder))
        run(here, out / "log")
        assert differences(whole, folder) == []
        number += 1


def differences(whole: Path, other: Path) -> list[str]:
    """Files of `whole` or `other` that are not of equal weights, manifests, or values in records."""
    names = sorted(
        {str(path.relative_to(root)) for root in (whole, other) for path in root.glob("runs/**/*") if path.is_file()}
    )
    return [name for name in names if _content(whole / name) != _content(other / name)]


def _content(path: Path) -> Any:
    if not path.is_file():
        return None
    return _values(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _values(item) for name, item in value.items() if name not in _OTHER}
    return [_values(item) for item in value] if isinstance(value, list) else value


def _found(out: Path) -> str:
    """In a line, what a killed process has left."""
    names = [path.name for path in out.glob("runs/**/*") if path.is_file()]
    whole = ("checkpoint.pt", "checkpoint.previous.pt", "model.safetensors", "run.json")
    found = [f"{names.count(name)} {name}" for name in whole if name in names]
    return ", ".join([*found, f"{sum(name.endswith('.tmp') for name in names)} half-written"])
