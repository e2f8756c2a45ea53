"""Whether the records of a folder belong together: keys, requests, manifests of poison, digests of weights and plugins.

All of it follows from the files alone. Somebody who makes up numbers, and keys and digests that fit them, passes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.canonical import canonical, digest, without_nulls
from bench.matrix.reading import Damaged, read_object
from bench.matrix.request_schema import RequestedCell, RequestRecord
from bench.matrix.schema import SCHEMA, EvalRecord, PluginRecord, RunRecord, SpecRecord
from bench.matrix.store import Store
from bench.submission.flaw import Flaw
from bench.submission.layout import PLUGINS, WEIGHTS
from bench.submission.manifest import sha256

_NAME = re.compile(r"\w[\w.+-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Records:
    """The records of a folder, by run key, and what its requests ask for. requests: their number."""

    root: Path
    store: Store
    requests: int
    asked: dict[str, list[RequestedCell]]
    runs: dict[str, RunRecord]
    evaluations: dict[str, list[EvalRecord]]

    def spec(self, key: str) -> SpecRecord:
        return self.asked[key][0].spec or SpecRecord()

    def has_weights(self, key: str) -> bool:
        return (self.root / weights_path(key)).is_file()


def check_records(root: Path, sources: Mapping[str, str], weights: bool = True) -> Records:
    """Read all records of a folder.

    Parameters
    ----------
    root : Path
        A results folder.
    sources : mapping of str to str
        Paths of plugin files by their sha256.
    weights : bool
        Whether files of weights, where there are any, must be those of the records.

    Raises
    ------
    Flaw
        If a record is damaged, missing or not asked for, or does not fit its key, its request or the files beside it.
    """
    store = Store.open(root).for_reports()
    if store.schema != SCHEMA:
        raise Flaw(
            "store.json",
            f"its records are of schema {store.schema}, of an earlier version of bench; schema {SCHEMA} is checked",
        )
    asked: dict[str, list[RequestedCell]] = {}
    paths = sorted((root / "requests").glob("*.json"))
    for path in paths:
        for cell in _request(path).cells:
            asked.setdefault(cell.run_key, []).append(cell)
    present = sorted(path.parent.name for path in (root / "runs").glob("*/run.json"))
    if not present:
        raise Flaw("runs", "there is no record; `bench run` makes them")
    for key in present:
        if key not in asked:
            raise Flaw(run_path(key), "no request asks for it")
    runs = {key: record for key in present if (record := store.run_record(key))}
    evaluations = {key: store.evaluations(key) for key in runs}
    for file, reason in sorted(store.damaged.items()):
        raise Flaw(file, reason)
    records = Records(root, store, len(paths), asked, runs, evaluations)
    for key in asked:
        _check_complete(records, key)
    for key in runs:
        _check_run(records, key, sources)
        if weights and records.has_weights(key) and sha256(root / weights_path(key)) != runs[key].weights.sha256:
            raise Flaw(weights_path(key), "its sha256 is not that in run.json")
    return records


def _request(path: Path) -> RequestRecord:
    """A request, whose name is its digest, and the keys in it those of the specifications in it."""
    name = f"requests/{path.name}"
    try:
        content = read_object(path) or {}
        content.pop("schema", None)
        request = RequestRecord.of(content)
    except Damaged as damage:
        raise Flaw(name, str(damage)) from None
    if request.key != path.stem:
        raise Flaw(name, f"its content has the key {request.key}")
    for cell in request.cells:
        own = digest(without_nulls(cell.spec.dump())) if cell.spec else None
        if own != cell.run_key:
            raise Flaw(name, f"run_key is {cell.run_key}, but its spec has the key {own}")
        if cell.spec and _shown(cell) != _specified(cell.spec):
            raise Flaw(name, f"calls run {own} {_shown(cell)}, but its spec is of {_specified(cell.spec)}")
    return request


def _shown(cell: RequestedCell) -> tuple[object, ...]:
    """What a request calls a cell."""
    attack = "" if cell.attack == "none" else cell.attack
    return cell.data, cell.model, attack, cell.attack_rate, cell.defense, cell.seed


def _specified(spec: SpecRecord) -> tuple[object, ...]:
    rate = spec.attack.params.rate if spec.attack else None
    return _name(spec.data), _name(spec.model), _name(spec.attack), rate, _name(spec.defense), spec.seed


def _check_complete(records: Records, key: str) -> None:
    """Raise Flaw unless what was asked for is on record, and nothing else."""
    cells = records.asked[key]
    supported = [cell for cell in cells if not cell.unsupported]
    if key not in records.runs:
        if supported:
            raise Flaw(run_path(key), f"missing: a request asks for {_title(supported[0])}")
        return
    asked = {(each.name, str(each.eval_key)): each.unsupported for cell in cells for each in cell.evaluators}
    found = {(_name(each.evaluator), str(each.eval_key)) for each in records.evaluations[key]}
    for name, own in sorted(found - asked.keys()):
        raise Flaw(f"runs/{key}/evals/{name}-{own}.json", "no request asks for it")
    for (name, own), unsupported in sorted(asked.items()):
        if not unsupported and (name, own) not in found:
            raise Flaw(f"runs/{key}/evals/{name}-{own}.json", f"missing: a request asks for it of {_title(cells[0])}")


def _title(cell: RequestedCell) -> str:
    spec = cell.spec or SpecRecord()
    return f"{_name(spec.defense)} against {_name(spec.attack) or 'no attack'} with seed {spec.seed}"


def _check_run(records: Records, key: str, sources: Mapping[str, str]) -> None:
    for plugin in plugins_of(records, key):
        if not _NAME.fullmatch(plugin.name):
            raise Flaw(run_path(key), f"a method is named {plugin.name[:40]!a}; names are letters, digits, and _ . + -")
        if plugin.source is not None and str(plugin.source) not in sources:
            raise Flaw(
                run_path(key),
                f"'{plugin.name}' is not built in as released, and no file in {PLUGINS}/ has its sha256, {plugin.source!s:.16}",
            )
    for evaluation in records.evaluations[key]:
        _check_evaluation(key, evaluation)
    _check_poison(records, key)


def _check_evaluation(key: str, record: EvalRecord) -> None:
    parts = {
        "run": key,
        "evaluator": without_nulls(record.evaluator.dump()) if record.evaluator else None,
        "clean": record.clean_run_key,
    }
    tasks = (record.downstream.dump().get("sets") or {}) if record.downstream else {}
    own = digest({**parts, "tasks": tasks} if tasks else parts)
    if own != record.eval_key:
        raise Flaw(eval_path(key, record), f"eval_key is {record.eval_key}, but its content has the key {own}")


def _check_poison(records: Records, key: str) -> None:
    record, file = records.runs[key], f"runs/{key}/poison.json"
    attack = _name(records.spec(key).attack)
    manifest = poison_manifest(records.root, key)
    if (manifest is None) != (not attack):
        raise Flaw(file, f"missing, though {attack} poisons the run" if attack else "there, though nothing poisons the run")
    if manifest is None:
        return
    claimed = manifest.pop("hash", None)
    if hashlib.sha256(canonical(manifest).encode()).hexdigest() != claimed:
        raise Flaw(file, "its hash is not that of its content")
    if manifest.get("attack") != attack or record.poison is None or record.poison.hash != claimed:
        raise Flaw(file, "not the poison that run.json names")


def poison_manifest(root: Path, key: str) -> dict[str, object] | None:
    """poison.json with its hash; None where there is none. Raises Flaw if it is damaged."""
    try:
        return read_object(root / "runs" / key / "poison.json")
    except Damaged as damage:
        raise Flaw(f"runs/{key}/poison.json", str(damage)) from None


def plugins_of(records: Records, key: str) -> Iterator[PluginRecord]:
    """Data set, attack, defense and evaluators of a run, with the defenses that they build on or stand beside."""
    spec = records.spec(key)
    pending = [spec.data, spec.attack, spec.defense, *(each.evaluator for each in records.evaluations.get(key, ()))]
    while pending:
        if plugin := pending.pop():
            yield plugin
            pending += [plugin.builds_on, plugin.beside]


def run_path(key: str) -> str:
    """Where a run is recorded."""
    return f"runs/{key}/run.json"


def weights_path(key: str) -> str:
    """Where the weights of a run are, if they are in the archive."""
    return f"runs/{key}/{WEIGHTS}"


def eval_path(key: str, record: EvalRecord) -> str:
    """Where an evaluation of a run is recorded."""
    return f"runs/{key}/evals/{_name(record.evaluator)}-{record.eval_key}.json"


def _name(plugin: PluginRecord | None) -> str:
    return plugin.name if plugin else ""
