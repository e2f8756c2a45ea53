"""From options to an exported training set."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from bench.errors import UserError
from bench.export.encoding import Encoding
from bench.export.export import Exported, export
from bench.interface.build import data_and_recipe
from bench.interface.config_file import config_text
from bench.interface.options import RunOptions
from bench.interface.precision import resolve
from bench.interface.values import require_names
from bench.matrix.cell import is_trained
from bench.matrix.device import device_of
from bench.matrix.evaluation import CellModels
from bench.matrix.expand import UNDEFENDED, Cell, MatrixRequest, expand
from bench.matrix.progress import progress_bars
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace


def poison(options: RunOptions, to: Path, format: str, jpeg: int | None, out: Path, console: Console) -> Exported:
    """Write the training set of one attack and seed. Raises UserError for bad input."""
    attacks = require_names("--attack", options.attack)
    if len(attacks) != 1:
        raise UserError(f"--attack {','.join(attacks)}: an export is of one attack")
    request = MatrixRequest(
        attacks=attacks,
        defenses=[UNDEFENDED],
        seeds=options.seeds,
        model=options.model,
        precision=resolve(options.precision, options.settings, device_of(options.device)),
        options=options.set,
        **data_and_recipe(options, "scenes"),
    )
    matrix = expand(request)
    cell = matrix.cells[-1]
    if cell.unsupported:
        raise UserError(f"{cell.title}: {cell.unsupported}")
    if cell.surrogate is not None:
        craft(matrix.workspace, cell, out)
    with progress_bars(console) as bars:
        bar = bars.add_task("writing", note="")

        def on_progress(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        return export(cell.spec, matrix.workspace, to, format, Encoding(jpeg), config_text(options), on_progress)


def craft(workspace: Workspace, cell: Cell, out: Path) -> None:
    """Complete the poison of a cell against its surrogate, which must be on record in `out`."""
    assert cell.surrogate is not None
    store = Store.open(out) if out.is_dir() else None
    if store is None or not is_trained(store, cell.surrogate):
        name = cell.spec.attack.name if cell.spec.attack else ""
        raise UserError(
            f"{name} is optimised against the clean model of seed {cell.spec.seed}, which is not on record in {out}; "
            f"`bench run --attack none --data {cell.spec.data.name} --seeds {cell.spec.seed} --out {out}` trains it"
        )
    workspace.craft(cell.spec, CellModels(workspace, store, torch.device("cpu")).surrogate(cell.surrogate))
