"""What the telemetry of records means that do not say it: all those that were written before `meaning` was a part of them."""

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
    return record.meaning or _BEFORE
