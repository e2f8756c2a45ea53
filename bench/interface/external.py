"""`bench evaluate`: measures a checkpoint that was trained elsewhere and records it beside the cells of a matrix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench import keys
from bench.config import PluginSpec, RunSpec
from bench.console import print_plain
from bench.disk import atomic_write
from bench.errors import UserError
from bench.interface.config_file import load_config
from bench.interface.evaluate import undefended_cell
from bench.interface.execute import report
from bench.interface.options import RunOptions
from bench.interface.plugins import load_plugins
from bench.interface.run import Results
from bench.matrix import cell as cells
from bench.matrix.device import device_of
from bench.matrix.evaluation import CellEvalContext, CellModels, evaluate
from bench.matrix.expand import NO_ATTACK, Cell
from bench.matrix.provenance import provenance
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import RunRecord, SpecRecord, Weights
from bench.matrix.store import Store, read_json
from bench.matrix.workspace import Workspace
from bench.models import checkpoint, factory
from bench.registry import evaluators
from bench.reports.records import EXTERNAL

EXPORTED, MANIFEST = "export.toml", "poison.json"
"""Files of an exported training set: its options, and the manifest of its poison."""
_OWN = ("weights", "name", "clean", "poison", "seed", "quiet")
"""Arguments of `evaluate_checkpoint` that `bench.run` lacks or calls by another name."""
_DEFAULTS = {"attack": NO_ATTACK, "data": "scenes", "seeds": 0, "out": "results", "set": (), "plugin": ()}
"""Defaults of `evaluate_checkpoint` that differ from those of `RunOptions`, or are written differently."""


def evaluate_checkpoint(
    weights: str | PathLike[str],
    *,
    model: str | None = None,
    name: str | None = None,
    clean: str | PathLike[str] | None = None,
    attack: str = NO_ATTACK,
    poison: str | PathLike[str] | None = None,
    data: str = "scenes",
    data_root: str | PathLike[str] | None = None,
    downstream_root: str | PathLike[str] | None = None,
    evaluator: str | Iterable[str] = ("asr", "zero_shot", "linear_probe"),
    recipe: str | Mapping[str, Any] | None = None,
    pretrained: str | None = None,
    seed: int = 0,
    set: Mapping[str, Any] | str | Iterable[str] = (),
    plugin: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
    out: str | PathLike[str] = "results",
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
) -> Results:
    """Measure a checkpoint that was trained elsewhere, and record it as a row "external" of the tables.

    It is measured on the probes of the cells of `bench.run` with the same data, model, recipe and options, and stands beside
    them. How it was trained is the caller's claim; nothing here can check it.

    Parameters
    ----------
    weights : str or path
        Safetensors, or a state dict written by torch.save, alone or in a checkpoint of open_clip or CleanCLIP. Pickled code is
        never run.
    model : str, optional
        Architecture, from `bench list models`; by default the recipe's. The ResNets of OpenAI and CleanCLIP are
        "RN50-quickgelu".
    name : str, optional
        Name in tables if there are several; by default the file's name.
    clean : str or path, optional
        A checkpoint of the same architecture trained without poison, for the ASR floor; by default plain CLIP in `out`.
    attack : str
        The attack whose probes are used; "none" measures utility alone.
    poison : str or path, optional
        A folder written by `bench poison`; its attack, data, model, options and seed are used unless given here.
    data : str
        Data set, or NAME:FOLDER.
    data_root, downstream_root : str or path, optional
        As in `bench.run`.
    evaluator : str or iterable of str
        Names from `bench list`, comma-separated lists of them, or "all".
    recipe : str or mapping, optional
        As in `bench.run`.
    pretrained : str, optional
        The weights it was fine-tuned from; it then stands beside the cells that start from them.
    seed : int
        Seed of the poison, not negative.
    set, plugin, out, device, precision
        As in `bench.run`.
    quiet : bool
        Print nothing.

    Returns
    -------
    Results
        The folder, and the key of the record.

    Raises
    ------
    UserError
        For bad input; also if the floor or the attack needs a clean model and there is none.

    Examples
    --------
    >>> bench.evaluate_checkpoint("epoch_10.pt", model="RN50-quickgelu", attack="badnet", data="cc3m:/cc3m")  # doctest: +SKIP
    """
    given = {key: value for key, value in locals().items() if key not in _OWN}
    options = _options(given | {"seeds": seed}, Path(poison) if poison is not None else None)
    load_plugins(options.plugin)
    undefended, workspace = undefended_cell(options, *options.attack)
    floor = _floor(undefended.evaluation_dependencies, clean)
    cell = _external_cell(undefended, workspace, _external(weights, name), floor)
    store, where = Store.create(options.out), device_of(options.device)
    _require_clean_models(undefended, cell, floor is None, store)
    models = CellModels(workspace, store, where)
    if undefended.surrogate is not None:
        workspace.craft(cell.spec, models.surrogate(undefended.surrogate))
    if poison is not None:
        _check_poison(cell.spec, workspace, Path(poison))
    for spec, file in ((floor, clean), (cell.spec, weights)):
        if spec is not None and file is not None:
            _record(spec, Path(file), store, where, _command(options, weights, name, clean))
    _measure(cell, workspace, store, models)
    request = RequestRecord(cells=[cell.as_request(workspace.source.recipe.name if workspace.source.recipe else None)])
    store.write_request(request.key, request)
    console = Console(quiet=quiet)
    print_plain(console, f"{Path(weights).name}: recorded as {cell.key}")
    report(store, console)
    return Results(options.out, (cell.key,), {"done": 1})


def _options(given: Mapping[str, Any], poison: Path | None) -> RunOptions:
    """The options of an exported training set, overridden by arguments other than the defaults."""
    exported: dict[str, Any] = load_config(poison / EXPORTED) if poison else {}
    usual = {name: field.default for name, field in RunOptions.model_fields.items()} | _DEFAULTS
    changed = {name: value for name, value in given.items() if value != usual[name]}
    options = RunOptions.of({**given, **exported, **changed})
    if len(options.attack) != 1 or len(options.seeds) != 1:
        raise UserError(f"{poison / EXPORTED if poison else '--attack'}: give one attack and one seed")
    return options.model_copy(update={"set": (*exported.get("set", ()), *options.set)}) if "set" in changed else options


def _check_poison(spec: RunSpec, workspace: Workspace, folder: Path) -> None:
    """Raise UserError unless the exported poison is that of `spec`."""
    exported = (read_json(folder / MANIFEST) or {}).get("hash")
    if exported is None:
        raise UserError(f"{folder / MANIFEST}: no manifest with a hash; give a folder written by `bench poison`")
    if spec.attack is None or workspace.poison(spec)[1].hash() != exported:
        raise UserError(
            f"{folder}: its poison does not have the hash that its options give here: the data set, an option or the attack's "
            "code differs"
        )


def _external(file: str | PathLike[str], name: str | None) -> PluginSpec:
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    params = {"checkpoint": name or path.name, "sha256": _digest(path)[:16]}
    return PluginSpec(name=EXTERNAL, version="1", params=params)


def _floor(clean: Sequence[RunSpec], file: str | PathLike[str] | None) -> RunSpec | None:
    """The clean cell whose model is in `file`; None if none is given or needed."""
    if file is None or not clean:
        return None
    return clean[0].model_copy(update={"defense": _external(file, None)})


def _external_cell(undefended: Cell, workspace: Workspace, model: PluginSpec, floor: RunSpec | None) -> Cell:
    """Plain CLIP's cell with the checkpoint in place of the defense, measured on the same probes."""
    spec = undefended.spec.model_copy(update={"defense": model})
    evaluations = []
    for each in undefended.evaluations:
        clean = each.clean and (floor or each.clean)
        tasks = workspace.downstream.fingerprints if evaluators[each.evaluator.name].plugin.needs_tasks else {}
        evaluations.append(replace(each, clean=clean, key=keys.eval_key(spec, each.evaluator, clean, tasks)))
    return Cell(spec, keys.run_key(spec), tuple(evaluations))


def _require_clean_models(undefended: Cell, cell: Cell, trained_here: bool, store: Store) -> None:
    """Raise UserError if a clean model that the evaluators or the attack need is missing."""
    needing = [each.evaluator.name for each in cell.evaluations if each.clean is not None and each.unsupported is None]
    required = [
        *(undefended.evaluation_dependencies if needing and trained_here else ()),
        *filter(None, [undefended.surrogate]),
    ]
    for spec in required:
        if not cells.is_trained(store, spec):
            attack = undefended.spec.attack
            what = attack.name if attack and spec == undefended.surrogate else needing[0]
            raise UserError(
                f"{what} needs a model trained without poison, and {store.root} has none of this setting: pass one by --clean, "
                f"run `bench run --attack none --defense clip` with the same options first, or leave out {what}"
            )


def _record(spec: RunSpec, file: Path, store: Store, device: torch.device, command: Sequence[str]) -> None:
    """Record a checkpoint as a trained cell; its provenance says that it was trained elsewhere."""
    key, started = keys.run_key(spec), datetime.now(UTC).isoformat(timespec="seconds")
    with store.lock(key):
        if cells.is_trained(store, spec):
            return
        network = factory.create(spec.model.name, 0)
        checkpoint.load(network, file, spec.model.name)
        content = factory.weights_bytes(network)
        with atomic_write(store.run_dir(key) / cells.WEIGHTS) as stream:
            stream.write(content)
        origin = {"trained": "elsewhere", "file": file.name, "sha256": _digest(file)}
        record = RunRecord(
            spec=SpecRecord.of(spec.model_dump(mode="json")),
            provenance=provenance(device, 1, command, started, **origin),
            weights=Weights(sha256=hashlib.sha256(content).hexdigest()),
        )
        store.write_run(key, record)


def _measure(cell: Cell, workspace: Workspace, store: Store, models: CellModels) -> None:
    with store.lock(cell.key):
        for each in cell.evaluations:
            if each.unsupported or store.eval_record(cell.key, each.evaluator.name, each.key):
                continue
            measured = evaluate(each, CellEvalContext(cell.spec, each.clean, workspace, models))
            store.write_eval(cell.key, each.evaluator.name, each.key, *measured)


def _command(
    options: RunOptions, weights: str | PathLike[str], name: str | None, clean: str | PathLike[str] | None
) -> list[str]:
    """The command line, without `bench`."""
    own = {"--weights": weights, "--name": name, "--clean": clean}
    words = [word for option, value in own.items() if value is not None for word in (option, str(value))]
    return ["evaluate", *words, *("--seed" if word == "--seeds" else word for word in options.command_line()[1:])]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
