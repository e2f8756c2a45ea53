"""`bench.load_predictions`."""

from __future__ import annotations

from os import PathLike

import pandas as pd

from bench.interface.results import read_folder
from bench.matrix import predictions
from bench.reports.predictions import rows_of
from bench.reports.records import Run

COLUMNS = {
    **dict.fromkeys(("data", "model", "attack", "defense", "control_of"), "category"),
    "seed": "int64",
    "run_key": "category",
    "evaluator": "category",
    **predictions.DTYPES,
}
"""Columns and their dtypes."""


def load_predictions(folder: str | PathLike[str] = "results") -> pd.DataFrame:
    """Read what each probe and test image of a results folder was given, as a data frame with one row for each.

    The means in the records are means over these rows: "asr" of `predicted == target`, "top1" of `correct`, "hit_at_5" of
    `place < 5`. An evaluation that kept no predictions, such as those of earlier versions, has no rows. Needs no data, plugins
    or PyTorch.

    Parameters
    ----------
    folder : str or path
        A results folder (`bench run --out`).

    Returns
    -------
    pandas.DataFrame
        Rows in the order of the report, with these columns. Class columns share their categories, so they compare with ==.

        data, model, attack, defense, control_of : category
            The run, as in `bench.load_results`.
        seed : int64
        run_key : category
            The run's key, to join columns of `bench.load_results`.
        evaluator : category
        task : category
            The downstream task, or "all" probes of an attack.
        group : category
            The trigger of a probe, where an attack has several; of target images without a trigger their number; the
            corruption; otherwise "all".
        uid : category
            Id of the image, or of the text that is asked for; of a triggered image that of the image without the trigger.
        true, target, predicted, predicted_clean : category
            Classes: that the image shows, the first where it shows several; that the adversary wants; that the model gives;
            that the clean model gives, for the floor. NA where unknown or none.
        correct : boolean
            Whether the prediction is a class that the image shows; NA where that is unknown.
        place, place_clean : Int32
            In retrieval, the place of the best right answer, from 0; by the clean model, for the floor.
        rejected : boolean
            Whether a detector rejects the image; NA where there is none.
        suspicion : Float32
            Its score, higher for more suspicious images; NA where there is none.

    Raises
    ------
    UserError
        If the folder does not exist, or a file of predictions is not the one that its record has the digest of.

    Warns
    -----
    UserWarning
        For each damaged record, which is skipped.

    Examples
    --------
    >>> rows = bench.load_predictions("results")  # doctest: +SKIP
    >>> probes = rows[rows.evaluator == "asr"]  # doctest: +SKIP
    >>> (probes.predicted == probes.target).groupby(probes.defense, observed=True).mean()  # doctest: +SKIP
    """
    store, runs = read_folder(folder)
    found = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})]
    for run in runs:
        for evaluation in run.evaluations:
            rows = rows_of(store, run, evaluation)
            if rows is not None:
                found.append(_of_run(rows, run, evaluation.name))
    return predictions.joined(found)


def _of_run(rows: pd.DataFrame, run: Run, evaluator: str) -> pd.DataFrame:
    """The rows of an evaluation with the columns of its run."""
    names = {
        "data": run.data,
        "model": run.model,
        "attack": run.attack,
        "defense": run.defense,
        "control_of": run.beside.name if run.beside else None,
        "run_key": run.key,
        "evaluator": evaluator,
    }
    labels = {column: pd.Categorical([name] * len(rows)) for column, name in names.items()}
    return rows.assign(seed=run.seed, **labels)[list(COLUMNS)]
