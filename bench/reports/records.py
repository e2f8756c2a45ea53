"""What a results folder says: every cell that was asked for or was run, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from bench.canonical import without_nulls
from bench.matrix.store import Store

Record = dict[str, Any]
Status = Literal["done", "failed", "missing", "unsupported"]
STATUSES: tuple[Status, ...] = ("done", "failed", "missing", "unsupported")
NOT_RUN = "not run yet; `bench run` with the same options runs it"
NOT_EVALUATED = "trained but not evaluated yet; `bench run` with the same options does it"
NOTHING_ASKED = "trained; no evaluation was asked for"
UNREADABLE = "run.json cannot be read; `bench run` with the same options trains the cell again"


@dataclass(frozen=True)
class Evaluation:
    """What became of one evaluator on one run. `name` is empty when no evaluator was asked for."""

    name: str
    status: Status
    reason: str = ""
    record: Record | None = None

    @property
    def measurements(self) -> list[Record]:
        return list(self.record.get("measurements") or []) if self.record else []

    def left_out(self, kind: str) -> dict[str, str]:
        """Downstream sets that were "skipped", or are "partial", each with the reason."""
        return dict(((self.record or {}).get("downstream") or {}).get(kind) or {})

    def metric(self, name: str) -> Record:
        """The declaration of a metric: unit, direction, description."""
        declared = (self.record or {}).get("metrics") or []
        return next((metric for metric in declared if metric.get("name") == name), {"name": name})


@dataclass(frozen=True)
class Run:
    """One cell: its identity, the record of its training if there is one, and its evaluations, sorted by name."""

    key: str
    data: str
    model: str
    attack: str
    attack_rate: float | None
    defense: str
    seed: int
    spec: Record
    record: Record | None
    failure: Record | None
    evaluations: tuple[Evaluation, ...]
    recipe: str | None = None
    """Name or file of the recipe that was asked for; None is the data set's own."""

    @property
    def status(self) -> Status:
        """The worst of its evaluations; an evaluator that does not apply does not count beside others."""
        statuses = {evaluation.status for evaluation in self.evaluations}
        for status in ("failed", "missing", "done"):
            if status in statuses:
                return status
        return "unsupported"

    @property
    def beside(self) -> Record | None:
        """The defense that a control stands beside; None for any other cell."""
        return (self.spec.get("defense") or {}).get("beside")

    @property
    def title(self) -> str:
        """Its defense; of a control also what it stands beside."""
        return f"{self.defense} beside {self.beside.get('name')}" if self.beside else self.defense

    @property
    def setting(self) -> str:
        """Canonical JSON of engine, data, model and training recipe: only runs that share it are compared."""
        return canonical({part: self.spec.get(part) for part in ("engine", "data", "model", "train")})


def canonical(value: Any) -> str:
    """JSON with sorted keys and without nulls: a null option and an absent one are the same, as in run keys."""
    return json.dumps(without_nulls(value), sort_keys=True, separators=(",", ":"))


def load_runs(store: Store) -> list[Run]:
    """All cells of the requests and all run records, in a fixed order; what cannot be read is named in `store.damaged`."""
    store = store.for_reports()
    cells: dict[str, list[Record]] = {}
    for request in store.requests():
        for cell in request.get("cells") or []:
            cells.setdefault(cell["run_key"], []).append(cell)
    on_disk = {path.parent.name for path in (store.root / "runs").glob("*/run.json")}
    runs = (_run(store, key, cells.get(key, [])) for key in sorted(cells.keys() | on_disk))
    return sorted((run for run in runs if run), key=_order)


def _order(run: Run) -> tuple[Any, ...]:
    attack = canonical(run.spec.get("attack") or {})
    rate = -1.0 if run.attack_rate is None else run.attack_rate
    defense = canonical(run.spec.get("defense") or {})
    train = run.spec.get("train") or {}
    recipe = train.get("epochs") or 0, train.get("batch_size") or 0, run.setting
    return run.data, run.model, recipe, run.attack, rate, attack, run.defense, defense, run.seed, run.key


def _run(store: Store, key: str, cells: list[Record]) -> Run | None:
    record = store.run_record(key)
    if record is None and not cells:
        return None  # a damaged record that nobody asked for: nothing is known about it
    cell = cells[0] if cells else {}
    spec = (record or {}).get("spec") or cell.get("spec") or {}
    attack = spec.get("attack") or {}
    failure = store.failure(key)
    return Run(
        key=key,
        data=cell.get("data") or _name(spec, "data"),
        model=cell.get("model") or _name(spec, "model"),
        attack=cell.get("attack") or attack.get("name") or "none",
        attack_rate=(attack.get("params") or {}).get("rate", cell.get("attack_rate")),
        defense=cell.get("defense") or _name(spec, "defense"),
        seed=int(cell.get("seed", spec.get("seed", 0))),
        spec=spec,
        record=record,
        failure=failure,
        evaluations=_evaluations(store, key, cells, record, failure),
        recipe=cell.get("recipe"),
    )


def _name(spec: Record, part: str) -> str:
    return str((spec.get(part) or {}).get("name") or "unknown")


def _evaluations(
    store: Store, key: str, cells: list[Record], record: Record | None, failure: Record | None
) -> tuple[Evaluation, ...]:
    done = _latest_evals(store, key) if record else {}
    asked: dict[str, list[Record]] = {}
    for cell in cells:
        for wanted in cell.get("evaluators") or []:
            reason = wanted.get("unsupported") or cell.get("unsupported")
            asked.setdefault(wanted["name"], []).append({**wanted, "unsupported": reason})
    if not done and not asked:
        reasons = [cell.get("unsupported") for cell in cells] or [None]
        asked[""] = [{"unsupported": reason} for reason in reasons]
    found = []
    for name in sorted(done.keys() | asked.keys()):
        if name in done:
            found.append(Evaluation(name, "done", record=done[name]))
        else:
            status, reason = _why_not(store, key, name, asked[name], record, failure)
            found.append(Evaluation(name, status, reason))
    return tuple(found)


def _why_not(
    store: Store, key: str, name: str, asked: list[Record], record: Record | None, failure: Record | None
) -> tuple[Status, str]:
    reasons = [wanted.get("unsupported") for wanted in asked]
    if all(reasons):
        return "unsupported", str(reasons[0])
    stage = str((failure or {}).get("stage") or "train")
    of_evaluation = stage.startswith("eval:")
    if failure and (stage == f"eval:{name}" if of_evaluation else record is None):
        return "failed", f"{stage}: {failure.get('error') or 'no message'}"
    if record:
        return "missing", NOT_EVALUATED if name else NOTHING_ASKED
    return "missing", UNREADABLE if (store.run_dir(key) / "run.json").exists() else NOT_RUN


def _latest_evals(store: Store, key: str) -> dict[str, Record]:
    """The newest record of each evaluator. Damaged files count as absent."""
    latest: dict[str, Record] = {}
    for record in store.evaluations(key):
        name = (record.get("evaluator") or {}).get("name")
        if name and (name not in latest or _age(record) > _age(latest[name])):
            latest[name] = record
    return latest


def _age(record: Record) -> tuple[datetime, str]:
    try:
        finished = datetime.fromisoformat(str(record.get("finished")))
    except ValueError:
        finished = datetime.min
    if finished.tzinfo is None:
        finished = finished.replace(tzinfo=UTC)
    return finished, str(record.get("eval_key"))
