"""Who trained which cell when, and what came of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.engine.training import without_times

SOURCE = '''
"""Notes every training outside the process of the tests: begin and end, the run's key, the process."""
import os, sys, time
from bench.errors import UserError
from bench.registry import register_defense
from bench.training.trainer import Trainer
from bench.defenses.clip import CLIP

run = Trainer.run
step = Trainer._step

def note(*words):
    with open(os.environ["TRACE"], "a") as stream:
        stream.write(" ".join(map(str, words)) + "\\n")

def traced_run(self):
    folder = self.checkpoint.parent
    resumed = self.checkpoint.exists()
    note("again" if (folder / "run.json").exists() else "resumed" if resumed else "begin", folder.name, os.getpid())
    done = run(self)
    note("end", folder.name, os.getpid())
    return done

def traced_step(self, *rest):
    time.sleep(float(os.environ.get("WAIT", "0")))
    return step(self, *rest)

if "pytest" not in sys.modules:
    Trainer.run, Trainer._step = traced_run, traced_step

@register_defense("picky")
class Picky(CLIP):
    """Plain CLIP that finds fault with what it is given."""

    def __init__(self, params, setup):
        raise UserError("defense.picky: nothing pleases it; choose another")
'''


def lines(trace: Path) -> list[list[str]]:
    return [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []


def check_none_twice(trace: Path, out: Path, first: int = 0) -> None:
    """Every cell on record was trained to its end by the process that began last, and never after it was on record.

    Lines of the trace before `first` are of other results.
    """
    last: dict[str, str] = {}
    ended: set[str] = set()
    for word, key, process in lines(trace)[first:]:
        assert word != "again", key
        if word == "end":
            assert last[key] == process, f"two processes trained {key} at a time"
            ended.add(key)
        last[key] = process
    assert ended == {path.parent.name for path in out.glob("runs/*/run.json")}


def values(out: Path) -> dict[str, Any]:
    """Everything on record but times and origins, by file; of weights the digest."""
    found: dict[str, Any] = {}
    for path in sorted(out.glob("runs/**/*")):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[name] = {key: value for key, value in record.items() if key not in {"provenance", "timing", "finished"}}
            if "curves" in record:
                found[name]["curves"] = without_times(record["curves"])
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
