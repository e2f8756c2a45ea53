"""Whatever the content of a file in a results folder, commands name that file and show the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import cli
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import Failure
from bench.matrix.store import Store

from .mutations import mutate
from .records_maker import cell_of, key_for, write_evals, write_training
from .suite_maker import ask

WHOLE, FAILED, BEGUN = ("wanet", "clip", 1), ("badnet", "safeclip", 0), ("badnet", "safeclip", 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Done, failed and begun cells, asked for by two requests; WHOLE is never mutated."""
    store = Store.create(tmp_path_factory.mktemp("out"))
    done = [("none", "clip", 0), ("badnet", "clip", 0), ("badnet", "clip", 1), WHOLE]
    for attack, defense, seed in done:
        write_training(store, attack, defense, seed)
        write_evals(store, attack, defense, seed, (0.9, 0.8, 0.7, 0.6))
        manifest = {"hash": "ab", "poisons": [{"index": 1, "caption": "a ball"}]}
        (store.run_dir(key_for(attack, defense, seed)) / "poison.json").write_text(json.dumps(manifest))
    write_training(store, *FAILED)
    store.write_failure(key_for(*FAILED), Failure.of({"stage": "eval:asr", "error": "no", "traceback": "File"}))
    store.write_request("q", RequestRecord.of({"cells": [cell_of(*cell) for cell in [*done, FAILED, BEGUN]]}))
    ask(store, "table1", {"cc1m | badnet | clip": [key_for("badnet", "clip", seed) for seed in (0, 1)]}, {})
    ask(store, "table6", {"cc1m | tdpa | safeclip t=0.9": [key_for(*FAILED)]}, {"cc1m | tdpa | safeclip t=0.7": "no"})
    with store.lock(key_for(*BEGUN)):
        pass
    beat = {"host": "h", "pid": 1, "since": 1000.0, "at": 1060.0, "stage": "train", "share": 0.5, "first": 0.25}
    store.heartbeat(key_for(*BEGUN)).write_text(json.dumps(beat))
    store.run_dir(key_for(*BEGUN)).mkdir(parents=True)
    (store.run_dir(key_for(*BEGUN)) / "checkpoint.pt").touch()
    return store.root


def call(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli, list(map(str, arguments)))


def check(root: Path, seed: int) -> None:
    path, whole, what = mutate(root, seed, spare=key_for(*WHOLE))
    try:
        status = call("status", "--out", root)
        report = call("report", "--out", root, "--format", "csv,html,latex")
        for result in (status, report):
            if path.name == "store.json" and result.exception is not None:
                assert str(result.exception).startswith(str(path)), what
                return
            assert result.exception is None, what
        rows = (root / "report" / "results.csv").read_text(encoding="utf-8").splitlines()
        assert sum(key_for(*WHOLE) in row and ",done," in row for row in rows) == 6, what
        damaged = [line for line in status.output.splitlines() if line.startswith("damaged ")]
        name = str(path.relative_to(root))
        assert [line.split()[1] for line in damaged] in ([], [f"{name}:"]), what
        assert (f"{name} is damaged and ignored: " in report.output) == bool(damaged), what
        page = (root / "report" / "index.html").read_text(encoding="utf-8")
        assert (f"<code>{name}</code>" in page) == bool(damaged), what
    except BaseException as error:
        error.add_note(f"seed {seed}: {path}: {what}")
        raise
    finally:
        path.write_text(whole, encoding="utf-8")


@pytest.mark.parametrize("first", range(0, 150, 30))
def test_mutated_records(root: Path, first: int) -> None:
    for seed in range(first, first + 30):
        check(root, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(150, 750, 60))
def test_many_mutated_records(root: Path, first: int) -> None:
    for seed in range(first, first + 60):
        check(root, seed)
