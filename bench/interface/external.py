"""`bench evaluate`: a checkpoint from elsewhere, measured and put on record beside the cells of a matrix."""

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
"""Of an exported poisoned set: the options that it was made with, and what is poisoned."""
_OWN = ("weights", "name", "clean", "poison", "seed", "quiet")
"""Arguments of `evaluate_checkpoint` that `bench.run` has not, or under another name."""
_DEFAULTS = {"attack": NO_ATTACK, "data": "scenes", "seeds": 0, "out": "results", "set": (), "plugin": ()}
"""Of `evaluate_checkpoint`, where `bench.run` has others or writes them in another way."""


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
    """Measure a checkpoint that was trained elsewhere; its record is a row "external" in the tables of the cells it is like.

    Those are the cells of `bench.run` with the same data, model, recipe and options, whose probes it is measured on. How it was
    trained nobody here knows: a table shows it beside them because it was told to.

    Parameters
    ----------
    weights : str or path
        Safetensors, or what torch.save wrote of a state dict, alone or in a checkpoint of open_clip or CleanCLIP. No pickle in
        it is run.
    model : str, optional
        Its architecture, as `bench list models` names it; by default the recipe's. OpenAI's and CleanCLIP's residual networks
        are "RN50-quickgelu".
    name : str, optional
        What tables call it where there are several; by default the file's name.
    clean : str or path, optional
        A checkpoint of the same kind, trained without poison, for the floor of the ASR; by default plain CLIP of `out`.
    attack : str
        Whose probes to measure on; "none" measures utility alone.
    poison : str or path, optional
        A folder that `bench poison` wrote: its attack, data, model, options and seed are taken where they are not given here.
    data : str
        Data set, or NAME:PLACE.
    data_root, downstream_root : str or path, optional
        As `bench.run` takes them.
    evaluator : str or iterable of str
        Names as `bench list` shows them, comma lists of them, or "all".
    recipe : str or mapping, optional
        As `bench.run` takes it.
    pretrained : str, optional
        Weights that it was fine-tuned from, which puts it beside the cells that start from them.
    seed : int
        Of the poison, not negative.
    set, plugin, out, device, precision
        As `bench.run` takes them.
    quiet : bool
        Print nothing.

    Returns
    -------
    Results
        The folder, and the key under which the model is on record there.

    Raises
    ------
    UserError
        For bad input, in one sentence; also where the floor or the attack needs a clean model and there is none.

    Examples
    --------
    >>> bench.evaluate_checkpoint("epoch_10.pt", model="RN50-quickgelu", attack="badnet", data="cc3m:/cc3m")  # doctest: +SKIP
    """
    given = {key: value for key, value in locals().items() if key not in _OWN}
    asked = _asked(given | {"seeds": seed}, Path(poison) if poison is not None else None)
    load_plugins(asked.plugin)
    undefended, workspace = undefended_cell(asked, *asked.attack)
    floor = _floor(undefended.evaluation_dependencies, clean)
    cell = _beside(undefended, workspace, _model_of(weights, name), floor)
    store, where = Store.create(asked.out), device_of(asked.device)
    _require(undefended, cell, floor is None, store)
    models = CellModels(workspace, store, where)
    if undefended.surrogate is not None:
        workspace.craft(cell.spec, models.surrogate(undefended.surrogate))
    if poison is not None:
        _check_poison(cell.spec, workspace, Path(poison))
    for spec, file in ((floor, clean), (cell.spec, weights)):
        if spec is not None and file is not None:
            _adopt(spec, Path(file), store, where, _words(asked, weights, name, clean))
    _measure(cell, workspace, store, models)
    request = RequestRecord(cells=[cell.as_request(workspace.source.recipe.name if workspace.source.recipe else None)])
    store.write_request(request.key, request)
    console = Console(quiet=quiet)
    print_plain(console, f"{Path(weights).name}: on record as {cell.key}")
    report(store, console)
    return Results(asked.out, (cell.key,), {"done": 1})


def _asked(given: Mapping[str, Any], poison: Path | None) -> RunOptions:
    """What is asked for: that of an exported poisoned set, and what differs from the defaults here."""
    told: dict[str, Any] = load_config(poison / EXPORTED) if poison else {}
    usual = {name: field.default for name, field in RunOptions.model_fields.items()} | _DEFAULTS
    changed = {name: value for name, value in given.items() if value != usual[name]}
    asked = RunOptions.of({**given, **told, **changed})
    if len(asked.attack) != 1 or len(asked.seeds) != 1:
        raise UserError(f"{poison / EXPORTED if poison else '--attack'}: one attack and one seed are measured at a time")
    return asked.model_copy(update={"set": (*told.get("set", ()), *asked.set)}) if "set" in changed else asked


def _check_poison(spec: RunSpec, workspace: Workspace, folder: Path) -> None:
    """Raise UserError where the poison that was exported is not the one that this spec has."""
    told = (read_json(folder / MANIFEST) or {}).get("hash")
    if told is None:
        raise UserError(f"{folder / MANIFEST}: there is no manifest with a hash; give the folder that `bench poison` wrote")
    if spec.attack is None or workspace.poison(spec)[1].hash() != told:
        raise UserError(
            f"{folder}: the poison there has another hash than the one that its options give here: the data set, an option or "
            "the attack's code differs"
        )


def _model_of(file: str | PathLike[str], name: str | None) -> PluginSpec:
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights")
    params = {"checkpoint": name or path.name, "sha256": _digest(path)[:16]}
    return PluginSpec(name=EXTERNAL, version="1", params=params)


def _floor(clean: Sequence[RunSpec], file: str | PathLike[str] | None) -> RunSpec | None:
    """The unpoisoned cell whose model a file is; None where no file is given or needed."""
    if file is None or not clean:
        return None
    return clean[0].model_copy(update={"defense": _model_of(file, None)})


def _beside(undefended: Cell, workspace: Workspace, model: PluginSpec, floor: RunSpec | None) -> Cell:
    """The cell of a model from elsewhere: that of plain CLIP with another defense, measured on the same probes."""
    spec = undefended.spec.model_copy(update={"defense": model})
    evaluations = []
    for each in undefended.evaluations:
        clean = each.clean and (floor or each.clean)
        tasks = workspace.downstream.fingerprints if evaluators[each.evaluator.name].plugin.needs_tasks else {}
        evaluations.append(replace(each, clean=clean, key=keys.eval_key(spec, each.evaluator, clean, tasks)))
    return Cell(spec, keys.run_key(spec), tuple(evaluations))


def _require(undefended: Cell, cell: Cell, trained_here: bool, store: Store) -> None:
    """Raise UserError where a model is not there that the evaluators or the attack need."""
    needy = [each.evaluator.name for each in cell.evaluations if each.clean is not None and each.unsupported is None]
    wanted = [*(undefended.evaluation_dependencies if needy and trained_here else ()), *filter(None, [undefended.surrogate])]
    for spec in wanted:
        if not cells.is_trained(store, spec):
            attack = undefended.spec.attack
            what = attack.name if attack and spec == undefended.surrogate else needy[0]
            raise UserError(
                f"{what} needs a model trained without poison, and {store.root} has none of this setting: give a checkpoint "
                f"of one with --clean, "
                f"run `bench run --attack none --defense clip` with the same options first, or leave out {what}"
            )


def _adopt(spec: RunSpec, file: Path, store: Store, device: torch.device, command: Sequence[str]) -> None:
    """Put a model from elsewhere on record, as if it had been trained here; its provenance says that it was not."""
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
            provenance=provenance(device, 1, command, started) | origin,
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


def _words(asked: RunOptions, weights: str | PathLike[str], name: str | None, clean: str | PathLike[str] | None) -> list[str]:
    """The command line that asks for it, without `bench`."""
    own = {"--weights": weights, "--name": name, "--clean": clean}
    said = [word for option, value in own.items() if value is not None for word in (option, str(value))]
    return ["evaluate", *said, *("--seed" if word == "--seeds" else word for word in asked.command_line()[1:])]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
