"""What the probes and test images of a run were given."""

from __future__ import annotations

import pandas as pd

from bench.matrix import predictions
from bench.matrix.store import Store
from bench.reports.records import Evaluation, Run


def rows_of(store: Store, run: Run, evaluation: Evaluation) -> pd.DataFrame | None:
    """What an evaluator kept of a run, with the columns of `bench.matrix.predictions.DTYPES`; None where its record names none.

    Raises UserError where the file is not the one that the record has the digest of.
    """
    record = evaluation.record
    if record is None or record.predictions is None:
        return None
    return predictions.read(store.predictions(run.key, evaluation.name, str(record.eval_key)), record.predictions.sha256)
