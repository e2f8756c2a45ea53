"""Records with values of wrong types: these are ignored, and the rest is shown."""

import json
from typing import Any

import pytest

from bench.cli.status_command import _state
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.reports.records import load_runs
from bench.reports.write import write_report

from .records_maker import cell_of, key_for, key_of, write_evals, write_training

WRONG: tuple[Any, ...] = (7, 10**400, "x", [7], ["x"], {"x": 7})

RUN = ("spec", "spec.attack", "spec.attack.params", "spec.attack.params.rate", "spec.defense", "spec.train", "spec.seed",
       "provenance", "timing", "timing.stages", "timing.train_seconds", "timing.pairs_per_second", "curves", "curves.0",
       "curves.0.loss", "curves.0.epoch", "examples", "poison", "poison.targets", "poison.captions", "data", "data.facts",
       "weights")  # fmt: skip
EVAL = ("evaluator", "evaluator.name", "metrics", "metrics.0", "metrics.0.name", "metrics.0.unit", "measurements",
        "measurements.0", "measurements.0.metric", "measurements.0.task", "measurements.0.value", "measurements.0.n",
        "measurements.0.ci_low", "downstream", "finished")  # fmt: skip
REQUEST = ("cells", "cells.0", "cells.0.run_key", "cells.0.spec", "cells.0.seed", "cells.0.attack", "cells.0.attack_rate",
           "cells.0.data", "cells.0.evaluators", "cells.0.evaluators.0", "cells.0.evaluators.0.name", "suite",
           "suite.name", "suite.runs", "suite.options", "suite.reasons")  # fmt: skip
HEARTBEAT = ("host", "since", "at", "share", "stage")
CLIP, SAFECLIP = (key_for("badnet", name, 0) for name in ("clip", "safeclip"))
FILES = {
    f"runs/{CLIP}/run.json": RUN,
    f"runs/{CLIP}/evals/asr-{key_of('asr')}.json": EVAL,
    f"runs/{SAFECLIP}/failure.json": ("stage", "error", "traceback"),
    "requests/q.json": REQUEST,
    f"locks/{SAFECLIP}.json": HEARTBEAT,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One whole cell, one that failed and was begun again, and one that was not asked for, to be seen whatever comes."""
    store = Store.create(tmp_path_factory.mktemp("out"))
    cells = [cell_of("badnet", "clip", 0), cell_of("badnet", "safeclip", 0)]
    store.write_request(
        "q",
        RequestRecord.of({"cells": cells, "suite": {"name": "table1", "runs": {"a": [CLIP]}, "options": [], "reasons": {}}}),
    )
    for attack in ("badnet", "wanet"):
        write_training(store, attack, "clip", 0)
        write_evals(store, attack, "clip", 0, (0.9, 0.8, 0.7, 0.6))
    store.write_failure(SAFECLIP, Failure.of({"stage": "train", "error": "no", "traceback": "File"}))
    (store.root / "locks").mkdir()
    beat = {"host": "h", "pid": 1, "since": 1.0, "at": 2.0, "share": 0.5, "first": 0.0, "stage": "train"}
    store.heartbeat(SAFECLIP).write_text(json.dumps(beat))
    return store


def _with(record: dict[str, Any], place: str, value: Any) -> str:
    changed = json.loads(json.dumps(record))
    *path, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    part: Any = changed
    for name in path:
        part = part[name]
    part[last] = value
    return json.dumps(changed)


def _read(store: Store, seen: set[str]) -> None:
    """Cached: equal content is only reported once."""
    runs = load_runs(store)
    assert [run.status for run in runs if run.key == key_for("wanet", "clip", 0)] == ["done"]
    assert all(isinstance(_state(store, run)[0], str) for run in runs)
    if (found := repr((runs, store.requests()))) not in seen:
        write_report(store, ["html", "csv"])
    seen.add(found)


@pytest.mark.parametrize("name", FILES)
def test_wrong_kinds_of_values(store: Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.reports.page.figures_of", lambda section: [])
    path = store.root / name
    whole, seen = path.read_text(), set[str]()
    try:
        for place in FILES[name]:
            for value in WRONG:
                path.write_text(_with(json.loads(whole), place, value))
                try:
                    _read(store, seen)
                except Exception as error:
                    raise AssertionError(f"{name}: {place} = {str(value)[:9]}") from error
    finally:
        path.write_text(whole)
