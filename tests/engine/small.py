"""Small cells of the embedded data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench import plugins
from bench.matrix.expand import Matrix, MatrixRequest, expand
from bench.matrix.schema import RecordModel

SIZES = ("data.train=256", "data.holdout=64", "data.test=64", "data.probe_train=64")
SMALL = (*SIZES, "train.epochs=1", "train.batch_size=64")


def small_matrix(
    *options: str,
    attacks: Sequence[str] = ("badnet",),
    defenses: Sequence[str] = ("clip",),
    evaluators: Sequence[str] = ("zero_shot",),
    seeds: Sequence[int] = (0,),
    model: str | None = None,
) -> Matrix:
    plugins.load()
    return expand(MatrixRequest("scenes", attacks, defenses, evaluators, seeds, model=model, options=(*SMALL, *options)))


def raw(record: RecordModel | None) -> dict[str, Any]:
    """A record as it is written; empty where there is none."""
    return record.dump() if record else {}
