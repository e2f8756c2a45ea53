"""The cells of a results folder: everything that was requested or run, with its status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from bench.canonical import identity
from bench.matrix.request_schema import RequestedCell
from bench.matrix.schema import EvalRecord, Failure, MeasurementRecord, MetricRecord, PluginRecord, RunRecord, SpecRecord
from bench.matrix.store import Store

Status = Literal["done", "failed", "missing", "unsupported"]
STATUSES: tuple[Status, ...] = ("done", "failed", "missing", "unsupported")
EXTERNAL = "external"
"""The defense of a model that was trained elsewhere."""
NOT_RUN = "not run yet; run `bench run` with the same options"
NOT_EVALUATED = "trained but not evaluated yet; run `bench run` with the same options"
NOTHING_ASKED = "trained; no evaluation was requested"
UNREADABLE = "run.json cannot be read; `bench run` with the same options trains the cell again"


@dataclass(frozen=True)
class Evaluation:
    """The status and result of one evaluator on one run. `name` is empty if no evaluator was requested."""

    name: str
    status: Status
    reason: str = ""
    record: EvalRecord | None = None

    @property
    def measurements(self) -> Sequence[MeasurementRecord]:
        return self.record.measurements if self.record else ()

    @property
    def identity(self) -> str:
        """Canonical JSON of the evaluator's name, version and parameters."""
        return self.record.evaluator.identity if self.record and self.record.evaluator else "null"

    def left_out(self, kind: str) -> dict[str, str]:
        """Downstream sets that are "skipped" or "partial", with the reasons."""
        found = self.record.downstream if self.record else None
        return {} if found is None else found.skipped if kind == "skipped" else found.partial

    def metric(self, name: str) -> MetricRecord:
        """The declaration of a metric: unit, direction, description."""
        declared = self.record.metrics if self.record else []
        return next((metric for metric in declared if metric.name == name), None) or MetricRecord(name=name)


@dataclass(frozen=True)
class Run:
    """One cell: its specification, its training record if there is one, and its evaluations, sorted by name."""

    key: str
    data: str
    model: str
    attack: str
    attack_rate: float | None
    defense: str
    seed: int
    spec: SpecRecord
    record: RunRecord | None
    failure: Failure | None
    evaluations: tuple[Evaluation, ...]
    recipe: str | None = None
    """Name or file of the requested recipe; None for the data set's own."""

    @property
    def status(self) -> Status:
        """The worst status of its evaluations; unsupported evaluators only count if there are no others."""
        statuses = {evaluation.status for evaluation in self.evaluations}
        for status in ("failed", "missing", "done"):
            if status in statuses:
                return status
        return "unsupported"

    @property
    def beside(self) -> PluginRecord | None:
        """For a control, the defense it belongs to; None for any other cell."""
        return self.spec.defense.beside if self.spec.defense else None

    @property
    def title(self) -> str:
        """The defense; for a control, also the defense it belongs to."""
        return f"{self.defense} for {self.beside.name}" if self.beside else self.defense

    @property
    def external(self) -> bool:
        """Whether its model was trained elsewhere and only measured here."""
        return self.defense == EXTERNAL

    @property
    def weights(self) -> str | None:
        """The digest of the weights that it starts from; None is from scratch."""
        return self.spec.model.weights if self.spec.model else None

    @property
    def given(self) -> str:
        """What these were asked for as: a tag of open_clip or the name of a file. Empty where no record says."""
        return self.record.provenance.pretrained if self.record else ""

    @cached_property
    def setting(self) -> str:
        """Canonical JSON of engine version, data, model and training recipe; only runs with the same setting are compared."""
        parts = "engine", "data", "model", "train"
        return identity({part: value for part, value in self.spec.dump().items() if part in parts})


def load_runs(store: Store) -> list[Run]:
    """All requested cells and all run records, in a fixed order; unreadable files are listed in `store.damaged`."""
    store = store.for_reports()
    cells: dict[str, list[RequestedCell]] = defaultdict(list)
    for request in store.requests():
        for cell in request.cells:
            cells[cell.run_key].append(cell)
    on_disk = {path.parent.name for path in (store.root / "runs").glob("*/run.json")}
    runs = [_run(store, key, cells[key]) for key in sorted(cells.keys() | on_disk)]
    return sorted((run for run in runs if run), key=order)


def order(run: Run) -> tuple[Any, ...]:
    """The order of runs in reports."""
    attack, defense = (plugin.identity if plugin else "{}" for plugin in (run.spec.attack, run.spec.defense))
    rate = -1.0 if run.attack_rate is None else run.attack_rate
    recipe = run.spec.train.epochs or 0, run.spec.train.batch_size or 0, run.setting
    return run.data, run.model, recipe, run.attack, rate, attack, run.defense, defense, run.seed, run.key


def _run(store: Store, key: str, cells: Sequence[RequestedCell]) -> Run | None:
    record = store.run_record(key)
    if record is None and not cells:
        return None  # a damaged record that was not requested: nothing is known about it
    cell = cells[0] if cells else RequestedCell.model_construct(run_key=key)
    spec = (record and record.spec) or cell.spec or SpecRecord()
    rated = spec.attack is not None and "rate" in spec.attack.params.model_fields_set
    failure = store.failure(key)
    return Run(
        key=key,
        data=cell.data or _name(spec.data),
        model=cell.model or _name(spec.model),
        attack=cell.attack or (spec.attack.name if spec.attack else "none"),
        attack_rate=spec.attack.params.rate if spec.attack and rated else cell.attack_rate,
        defense=cell.defense or _name(spec.defense),
        seed=cell.seed if "seed" in cell.model_fields_set else spec.seed,
        spec=spec,
        record=record,
        failure=failure,
        evaluations=_evaluations(store, key, cells, record, failure),
        recipe=cell.recipe,
    )


def _name(plugin: PluginRecord | None) -> str:
    return plugin.name if plugin and plugin.name else "unknown"


def _evaluations(
    store: Store, key: str, cells: Sequence[RequestedCell], record: RunRecord | None, failure: Failure | None
) -> tuple[Evaluation, ...]:
    done = _latest_evals(store, key) if record else {}
    asked: dict[str, list[str | None]] = defaultdict(list)
    for cell in cells:
        for wanted in cell.evaluators:
            asked[wanted.name].append(wanted.unsupported or cell.unsupported)
    if not done and not asked:
        asked[""] = [cell.unsupported for cell in cells] or [None]
    return tuple(
        Evaluation(name, "done", record=done[name])
        if name in done
        else Evaluation(name, *_why_not(store, key, name, asked[name], record, failure))
        for name in sorted(done.keys() | asked.keys())
    )


def _why_not(
    store: Store, key: str, name: str, unsupported: Sequence[str | None], record: RunRecord | None, failure: Failure | None
) -> tuple[Status, str]:
    if all(unsupported):
        return "unsupported", str(unsupported[0])
    stage = failure.stage or "train" if failure else ""
    if failure and (stage == f"eval:{name}" if stage.startswith("eval:") else record is None):
        return "failed", f"{stage}: {failure.error or 'no message'}"
    if record:
        return "missing", NOT_EVALUATED if name else NOTHING_ASKED
    return "missing", UNREADABLE if (store.run_dir(key) / "run.json").exists() else NOT_RUN


def _latest_evals(store: Store, key: str) -> Mapping[str, EvalRecord]:
    """The latest record of each evaluator; damaged files are ignored."""
    found = sorted(store.evaluations(key), key=_age)
    return {each.evaluator.name: each for each in found if each.evaluator and each.evaluator.name}


def _age(record: EvalRecord) -> tuple[datetime, str]:
    try:
        finished = datetime.fromisoformat(str(record.finished))
    except ValueError:
        finished = datetime.min
    if finished.tzinfo is None:
        finished = finished.replace(tzinfo=UTC)
    return finished, str(record.eval_key)
