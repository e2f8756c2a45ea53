"""One run of an archive, trained anew."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from bench.errors import UserError
from bench.matrix.expand import UNDEFENDED
from bench.matrix.local import LocalExecutor
from bench.matrix.progress import MatrixProgress
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.reports.command import EMBEDDED
from bench.shutdown import graceful_shutdown
from bench.submission.compare import TRAINED_AGAIN, check_measurements, same_kind
from bench.submission.flaw import Flaw
from bench.submission.manifest import Environment
from bench.submission.recompute import Rebuilt
from bench.submission.records import Records, eval_path, run_path


@dataclass(frozen=True)
class Retrained:
    """A run that was trained anew, and whether its weights had to be, and were, the same to the last bit."""

    key: str
    title: str
    exact: bool


def retrain(records: Records, rebuilt: Mapping[str, Rebuilt], made: Environment, asked: str | None = None) -> Retrained:
    """Train one run and what it depends on, and compare weights and numbers.

    Parameters
    ----------
    records, rebuilt, made
        What was checked before.
    asked : str, optional
        The run key; by default the cheapest run of the embedded data set, of a defense under attack if there is one.

    Raises
    ------
    Flaw
        If weights or numbers differ: by a bit on a CPU of the same kind, else by more than TRAINED_AGAIN.
    """
    key = _chosen(records, rebuilt, asked)
    cell, file = rebuilt[key].cell, run_path(key)
    exact = same_kind(records.runs[key], made)
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as folder:
        store = Store.create(Path(folder))
        _train(rebuilt[key], store)
        again = store.run_record(key)
        if again is None:
            failed = store.failure(key)
            raise Flaw(file, f"cannot be trained anew ({failed.error if failed else 'no record'})")
        if exact and again.weights.sha256 != records.runs[key].weights.sha256:
            raise Flaw(file, "trained anew on the same kind of CPU, its weights are others")
        here = {each.evaluator.name: each for each in store.evaluations(key) if each.evaluator}
        for record in records.evaluations[key]:
            name = record.evaluator.name if record.evaluator else ""
            if not record.downstream:
                tolerance = 0.0 if exact else TRAINED_AGAIN
                check_measurements(eval_path(key, record), record, here[name], tolerance, "a new training")
    return Retrained(key, cell.title, exact)


def _chosen(records: Records, rebuilt: Mapping[str, Rebuilt], asked: str | None) -> str:
    able = [
        key for key, found in rebuilt.items() if found.cell.spec.data.name in EMBEDDED and not found.cell.spec.model.weights
    ]
    if asked is not None and asked not in able:
        raise UserError(f"--run {asked}: no run of the archive that can be trained here; {', '.join(able) or 'there is none'}")
    if not able:
        raise UserError(f"--retrain: no run of {', '.join(EMBEDDED)} from scratch can be trained here")

    def rank(key: str) -> tuple[bool, bool, float]:
        spec, timing = rebuilt[key].cell.spec, records.runs[key].timing
        return (
            spec.attack is None,
            spec.defense.name == UNDEFENDED,
            sum(timing.stages.values()) + (timing.builds_on_seconds or 0.0),
        )

    return asked or min(able, key=rank)


def _train(found: Rebuilt, store: Store) -> None:
    progress = MatrixProgress(Console(quiet=True), 1)
    with graceful_shutdown() as stop:
        runtime = Runtime(torch.device("cpu"), progress, stop, command=("verify",))
        LocalExecutor(found.matrix, store, runtime, progress, retry_failed=False).run_cell(found.cell)
