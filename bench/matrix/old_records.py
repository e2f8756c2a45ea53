"""Meaning of telemetry and engagement limits of records written before they had these fields."""

from __future__ import annotations

from collections.abc import Sequence

from bench.matrix.schema import LimitRecord, RunRecord
from bench.meaning import Meaning, Mixture, Stage

_BEFORE = Meaning(
    safe_share="safe_share",
    safe_cut="safe_cut",
    mixture=Mixture(**{name: f"gmm_{name}" for name in Mixture.model_fields}),
    stages=(Stage(name="unimodal", phase="unimodal"), Stage(name="mixed", phase="safe", updates=True)),
    lr_shares=("low_lr",),
)
_LARGEST = 0.85


def meaning_of(record: RunRecord) -> Meaning:
    """The meaning in the record, else that of SafeCLIP's telemetry at the time."""
    return record.meaning or _BEFORE


def engagement_of(record: RunRecord) -> Sequence[LimitRecord]:
    """The limits in the record, else that on SafeCLIP's last safe set if the record misses it.

    Older records hold too little telemetry to show that a defense engaged.
    """
    shares = [share for point in record.curves if (share := point.share(str(_BEFORE.safe_share))) is not None]
    if record.engagement or record.meaning or not shares or shares[-1] <= _LARGEST:
        return record.engagement
    what, advice = "share of the pairs in the last safe set", "lower growth or largest"
    return [LimitRecord(what=what, advice=advice, engaged=False, value=shares[-1], high=_LARGEST)]
