"""What kinds of values the parts of records are, so that a damaged record is told from a whole one. Parts may lack."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.matrix.reading import Damaged

Part = dict[str, Any]


class Shape(BaseModel):
    """Other parts than those named here may be anything."""

    model_config = ConfigDict(strict=True)

    @classmethod
    def check(cls, record: dict[str, Any]) -> None:
        """Raises Damaged, with the first part that is of another kind."""
        try:
            cls.model_validate(record)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise Damaged(first["msg"].removeprefix("Input "), *first["loc"]) from None


class Plugin(Shape):
    name: str | None = None
    params: Part | None = None


class Params(Shape):
    rate: float | None = None


class Attack(Plugin):
    params: Params | None = None  # type: ignore[assignment]


class Train(Shape):
    epochs: int | None = None
    batch_size: int | None = None


class Spec(Shape):
    data: Plugin | None = None
    model: Plugin | None = None
    attack: Attack | None = None
    defense: Plugin | None = None
    train: Train | None = None
    seed: int = 0


class Timing(Shape):
    train_seconds: float | None = None
    pairs_per_second: float | None = None
    builds_on_seconds: float | None = None
    stages: dict[str, float] | None = None


class Poison(Shape):
    targets: list[str] | None = None
    captions: list[str] | None = None


class Data(Shape):
    facts: Part | None = None


class Weights(Shape):
    sha256: str


class Trained(Shape):
    """run.json"""

    spec: Spec | None = None
    provenance: Part | None = None
    timing: Timing | None = None
    curves: list[Part] | None = None
    poison: Poison | None = None
    data: Data | None = None
    weights: Weights | None = None


class Metric(Shape):
    name: str
    unit: str = ""
    better: str = ""


class Measurement(Shape):
    metric: str
    task: str
    value: float | None
    n: int | None = None
    ci_low: float | None = None
    ci_high: float | None = None


class Downstream(Shape):
    skipped: dict[str, str] | None = None
    partial: dict[str, str] | None = None


class Measured(Shape):
    """evals/NAME-KEY.json"""

    evaluator: Plugin | None = None
    metrics: list[Metric] | None = None
    measurements: list[Measurement] | None = None
    downstream: Downstream | None = None


class Failure(Shape):
    """failure.json"""

    stage: str = ""
    error: str = ""


class Asked(Shape):
    name: str
    unsupported: str | None = None


class Cell(Shape):
    run_key: str
    data: str | None = None
    model: str | None = None
    attack: str | None = None
    attack_rate: float | None = None
    defense: str | None = None
    seed: int = 0
    spec: Spec | None = None
    unsupported: str | None = None
    evaluators: list[Asked] | None = None


class Suite(Shape):
    name: str
    instead: str | None = None
    options: list[Any] | None = None
    runs: dict[str, list[str]] | None = None
    reasons: dict[str, str] | None = None


class Request(Shape):
    """requests/KEY.json"""

    cells: list[Cell] | None = None
    suite: Suite | None = None
