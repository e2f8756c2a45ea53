"""`bench.evaluate` and `bench.load_model`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from bench import keys
from bench.config import RunSpec
from bench.errors import UserError
from bench.interface.build import data_and_recipe
from bench.interface.options import RunOptions
from bench.interface.plugins import load_plugins
from bench.interface.precision import resolve
from bench.interface.results import COLUMNS
from bench.matrix.device import device_of
from bench.matrix.evaluation import CellEvalContext, CellModels
from bench.matrix.expand import NO_ATTACK, UNDEFENDED, Cell, CellEvaluation, MatrixRequest, expand
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip, FrozenSurrogate
from bench.registry import evaluators
from bench.reports.records import load_runs

_COLUMNS = (
    "data", "model", "attack", "rate", "seed", "evaluator", "task", "metric", "unit", "better", "value", "n", "ci_low",
    "ci_high", "status", "reason",
)  # fmt: skip


def load_model(folder: str | PathLike[str], run_key: str) -> torch.nn.Module:
    """Load the trained model of a cell.

    Parameters
    ----------
    folder : str or path
        A results folder.
    run_key : str
        The cell's key, as in the column `run_key` of `load_results`.

    Returns
    -------
    torch.nn.Module
        An open_clip model in evaluation mode, float32, on the CPU.

    Raises
    ------
    UserError
        If the folder has no such cell, or no weights of it.
    """
    store = Store.open(Path(folder))
    run = next((run for run in load_runs(store) if run.key == run_key), None)
    if run is None or run.record is None:
        raise UserError(f"{folder}: no trained cell {run_key}; the column run_key of bench.load_results lists them")
    file = store.run_dir(run_key) / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{file}: no such file; `bench run --out {folder}` with the same options trains the cell again")
    network = factory.create(run.model, 0)
    factory.load_weights(network, file)
    return network.eval()


def evaluate(
    network: torch.nn.Module,
    *,
    model: str,
    clean: torch.nn.Module | None = None,
    attack: str = "none",
    data: str = "scenes",
    data_root: str | PathLike[str] | None = None,
    downstream_root: str | PathLike[str] | None = None,
    evaluator: str | Iterable[str] = ("asr", "zero_shot", "linear_probe"),
    recipe: str | Mapping[str, Any] | None = None,
    seed: int = 0,
    set: Mapping[str, Any] | str | Iterable[str] = (),
    plugin: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
) -> pd.DataFrame:
    """Evaluate an open_clip model in memory; nothing is trained or written, and the model is not modified.

    The probes of an attack are those of `bench.run` with the same data, attack, options and seed. The caller has to know that
    the model was trained on that poison; otherwise the ASR is just its error rate. To add an evaluator to cells on record use
    ``bench.run(..., evaluator=...)``, which trains nothing again.

    Parameters
    ----------
    network : torch.nn.Module
        With `encode_image`, `encode_text` and `visual` as open_clip's models have them.
    model : str
        Its architecture, from `bench list models`, which determines tokenizer and image size.
    clean : torch.nn.Module, optional
        The same model trained without poison: it gives the ASR floor, and is the surrogate of some attacks.
    attack : str
        The attack whose probes are used; "none" measures utility alone.
    data : str
        Data set, or NAME:FOLDER.
    data_root : str or path, optional
        Folder of the data set.
    downstream_root : str or path, optional
        Folder of further downstream sets.
    evaluator : str or iterable of str
        Names from `bench list`, comma-separated lists of them, or "all".
    recipe : str or mapping, optional
        As in `bench.run`.
    seed : int
        Seed of the poison, not negative.
    set : mapping, or str or iterable of str
        As in `bench.run`.
    plugin : str or path, or iterable of these
        Python files with plugins. Their code runs.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" or "mps".
    precision : {"auto", "fp32", "bf16", "fp16"}
        "auto" is the recipe's, but fp32 on a CPU without bf16 instructions.

    Returns
    -------
    pandas.DataFrame
        One row for each measurement, with the columns data, model, attack, rate, seed, evaluator, task, metric, unit, better,
        value, n, ci_low, ci_high, status and reason as in `bench.load_results`. An evaluator that does not apply has one row
        with the reason.

    Raises
    ------
    UserError
        For bad input; also if an evaluator or the attack needs `clean` and it is not given.

    Examples
    --------
    >>> network = bench.load_model("results", key)  # doctest: +SKIP
    >>> bench.evaluate(network, model="scenes-small", evaluator="zero_shot", set={"data.train": 1024})  # doctest: +SKIP
    """
    given = {name: value for name, value in locals().items() if name not in ("network", "clean", "seed")}
    options = RunOptions.of({**given, "seeds": seed})
    load_plugins(options.plugin)
    cell, workspace = undefended_cell(options, attack)
    models = _InMemory(cell, workspace, network, clean, device_of(options.device))
    needing = [each.evaluator.name for each in cell.evaluations if each.clean is not None and each.unsupported is None]
    if clean is None and (needing or cell.surrogate):
        what = " and ".join(needing) or attack
        raise UserError(f"{what} needs a model trained without poison: pass it as clean, or leave out {what}")
    if cell.surrogate is not None:
        workspace.craft(cell.spec, models.surrogate(cell.surrogate))
    rows = [row for each in cell.evaluations for row in _rows(cell, each, workspace, models)]
    return pd.DataFrame(rows, columns=list(_COLUMNS), dtype=object).astype({name: COLUMNS[name] for name in _COLUMNS})


def undefended_cell(options: RunOptions, attack: str) -> tuple[Cell, Workspace]:
    """The undefended cell whose probes are used."""
    data = data_and_recipe(options, "scenes")
    request = MatrixRequest(
        attacks=[attack],
        defenses=[UNDEFENDED],
        evaluators=options.evaluator,
        seeds=options.seeds,
        downstream_root=options.downstream_root,
        model=options.model,
        precision=resolve(options.precision, options.settings, device_of(options.device)),
        options=options.settings,
        **data,
    )
    matrix = expand(request)
    cell = matrix.cells[-1]
    if cell.unsupported:
        raise UserError(f"{cell.title}: {cell.unsupported}")
    return cell, matrix.workspace


class _InMemory(CellModels):
    """The given model and clean model, in place of trained ones."""

    def __init__(
        self, cell: Cell, workspace: Workspace, network: torch.nn.Module, clean: torch.nn.Module | None, device: torch.device
    ) -> None:
        self._tokens = workspace.tokens
        self._device = device
        self._networks = {cell.key: network}
        self._frozen = {cell.key: self._frozen_of(cell.spec, network)}
        for spec in [*cell.evaluation_dependencies, cell.surrogate]:
            if clean is not None and spec is not None and keys.run_key(spec) not in self._networks:
                self._networks[keys.run_key(spec)] = clean
                self._frozen[keys.run_key(spec)] = self._frozen_of(spec, clean)

    def load(self, spec: RunSpec) -> FrozenClip:
        return self._frozen[keys.run_key(spec)]

    def surrogate(self, spec: RunSpec) -> FrozenSurrogate:
        network = copy.deepcopy(self._networks[keys.run_key(spec)])
        return FrozenSurrogate(ClipEncoder(network, "fp32", self._device), self._tokens)

    def _frozen_of(self, spec: RunSpec, network: torch.nn.Module) -> FrozenClip:
        side = getattr(getattr(network, "visual", None), "image_size", None)
        side = side[0] if isinstance(side, tuple | list) else side
        wanted = factory.image_size(spec.model.name)
        if side is not None and side != wanted:
            raise UserError(f"model {spec.model.name} takes images of {wanted} pixels, the given network takes {side}")
        return FrozenClip(ClipEncoder(copy.deepcopy(network), spec.train.precision, self._device), self._tokens)


def _rows(cell: Cell, evaluation: CellEvaluation, workspace: Workspace, models: CellModels) -> list[dict[str, Any]]:
    attack, plugin = cell.spec.attack, evaluators[evaluation.evaluator.name].plugin
    base = {
        "data": cell.spec.data.name,
        "model": cell.spec.model.name,
        "attack": attack.name if attack else NO_ATTACK,
        "rate": attack.params["rate"] if attack else None,
        "seed": cell.spec.seed,
        "evaluator": plugin.name,
        "status": "done",
    }
    if evaluation.unsupported:
        return [base | {"status": "unsupported", "reason": evaluation.unsupported}]
    declared = {metric.name: {"unit": metric.unit, "better": metric.better} for metric in plugin.metrics}
    ctx = CellEvalContext(cell.spec, evaluation.clean, workspace, models)
    found = plugin(plugin.Params.model_validate(evaluation.evaluator.params)).evaluate(ctx)
    return [base | measured.model_dump() | declared[measured.metric] for measured in found]
