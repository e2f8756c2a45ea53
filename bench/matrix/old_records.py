"""The telemetry meaning of records that have none: those written before the field `meaning` existed."""

from __future__ import annotations

from bench.matrix.schema import RunRecord
from bench.meaning import Meaning, Mixture, Stage

_BEFORE = Meaning(
    safe_share="safe_share",
    safe_cut="safe_cut",
    mixture=Mixture(**{name: f"gmm_{name}" for name in Mixture.model_fields}),
    stages=(Stage(name="unimodal", phase="unimodal"), Stage(name="mixed", phase="safe", updates=True)),
    lr_shares=("low_lr",),
)


def meaning_of(record: RunRecord) -> Meaning:
    """The meaning in the record, else that of SafeCLIP's telemetry at the time."""
    return record.meaning or _BEFORE
