"""Recorded numbers beside those that the weights in the archive give here."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bench.errors import UserError
from bench.matrix.cell import is_trained
from bench.matrix.evaluation import CellEvalContext, CellModels, evaluate
from bench.matrix.expand import Cell, CellEvaluation
from bench.matrix.schema import EvalRecord
from bench.submission.compare import MEASURED_AGAIN, check_measurements, same_kind
from bench.submission.flaw import Flaw
from bench.submission.manifest import Environment
from bench.submission.recompute import Rebuilt
from bench.submission.records import Records, eval_path, weights_path


def remeasure(records: Records, rebuilt: Mapping[str, Rebuilt], made: Environment) -> dict[str, bool]:
    """Measure every model whose weights are in the archive.

    Returns
    -------
    dict of str to bool
        The runs of which every number was measured again, and whether each had to be, and was, the same to the last bit.

    Raises
    ------
    Flaw
        If weights give other numbers, or are not those of the model.
    """
    exact = {}
    for key, found in rebuilt.items():
        if not records.has_weights(key) or not _ready(records, found.cell):
            continue
        exact[key] = same_kind(records.runs[key], made)
        models = CellModels(found.workspace, records.store, torch.device("cpu"))
        by_name = {each.evaluator.name: each for each in found.cell.evaluations}
        for record in records.evaluations[key]:
            if record.downstream:
                exact.pop(key, None)
                continue
            here = _evaluated(key, found, by_name[record.evaluator.name if record.evaluator else ""], models)
            same = same_kind(records.runs[key], made)
            check_measurements(
                eval_path(key, record), record, here, 0.0 if same else MEASURED_AGAIN, "the model in the archive"
            )
            if same and record.predictions and here.predictions != record.predictions:
                raise Flaw(eval_path(key, record), "the model in the archive makes other predictions")
    return exact


def _ready(records: Records, cell: Cell) -> bool:
    """Whether the archive has the weights of the other models that the cell is measured with."""
    needed = [*cell.evaluation_dependencies, *filter(None, [cell.surrogate])]
    return all(is_trained(records.store, spec) for spec in needed)


def _evaluated(key: str, found: Rebuilt, evaluation: CellEvaluation, models: CellModels) -> EvalRecord:
    try:
        if found.cell.surrogate is not None:
            found.workspace.craft(found.cell.spec, models.surrogate(found.cell.surrogate))
        return evaluate(evaluation, CellEvalContext(found.cell.spec, evaluation.clean, found.workspace, models))[0]
    except (UserError, MemoryError):
        raise
    except Exception as error:  # hostile weights fail in many ways
        name = evaluation.evaluator.name
        raise Flaw(weights_path(key), f"{name} cannot be measured on it ({type(error).__name__}: {error!s:.200})") from None


def weights_given(records: Records) -> int:
    """The number of runs with weights in the archive."""
    return sum(map(records.has_weights, records.runs))
