"""What kinds of values the parts of records are, so that a damaged record is told from a whole one. Parts may lack."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import UserError
from bench.matrix.reading import Damaged
from bench.suites.library import from_record

Part = dict[str, Any]
Number = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A measured number; sums of them stay finite."""
Count = Annotated[int, Field(ge=0)]
Key = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
"""Names a folder."""


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
    name: str
    params: Part | None = None
    beside: Plugin | None = None


class AttackParams(Shape):
    rate: Number | None = None


class Attack(Plugin):
    params: AttackParams | None = None  # type: ignore[assignment]


class DefenseParams(Shape):
    low_lr: Number = 0.0


class Defense(Plugin):
    params: DefenseParams | None = None  # type: ignore[assignment]


class Train(Shape):
    epochs: Count | None = None
    batch_size: Count | None = None
    lr: Number = 0.0


class Spec(Shape):
    data: Plugin | None = None
    model: Plugin | None = None
    attack: Attack | None = None
    defense: Defense | None = None
    train: Train | None = None
    seed: int = 0


class Timing(Shape):
    train_seconds: Number | None = None
    pairs_per_second: Number | None = None
    builds_on_seconds: Number | None = None
    stages: dict[str, Number] | None = None


class Epoch(Shape):
    epoch: Count | None = None
    loss: Number | None = None
    seconds: Number | None = None
    safe_share: Annotated[float, Field(ge=0, le=1)] = 1.0


class Limit(Shape):
    what: str
    advice: str
    engaged: bool
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unit: str = "fraction"


class Examples(Shape):
    labels: list[str]
    values: list[list[Number]]


class Poison(Shape):
    added: Count = 0
    replaced: Count = 0
    targets: list[str] | None = None
    captions: list[str] | None = None


class Data(Shape):
    train_pairs: Count | None = None
    facts: Part | None = None


class Weights(Shape):
    sha256: str


class Trained(Shape):
    """run.json"""

    spec: Spec | None = None
    provenance: Part | None = None
    timing: Timing | None = None
    curves: list[Epoch] | None = None
    engagement: list[Limit] | None = None
    examples: Examples | None = None
    poison: Poison | None = None
    data: Data | None = None
    weights: Weights = Weights(sha256="")


class Metric(Shape):
    name: str
    unit: str = ""
    better: str = ""
    description: str = ""


class Measurement(Shape):
    metric: str
    task: str
    value: Number | None
    n: Count | None = None
    ci_low: Number | None = None
    ci_high: Number | None = None


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
    traceback: str = ""


class Asked(Shape):
    name: str
    unsupported: str | None = None


class Cell(Shape):
    run_key: Key
    data: str | None = None
    model: str | None = None
    attack: str | None = None
    attack_rate: Number | None = None
    defense: str | None = None
    seed: int = 0
    recipe: str | None = None
    spec: Spec | None = None
    unsupported: str | None = None
    evaluators: list[Asked] | None = None


class Suite(Shape):
    """`content` is what the file of a suite said that is not built in."""

    name: str
    content: Part | None = None
    digest: str | None = None
    instead: str | None = None
    model: str | None = None
    precision: str | None = None
    options: list[Any] | None = None
    runs: dict[str, list[str]] | None = None
    reasons: dict[str, str] | None = None

    @model_validator(mode="after")
    def _reads(self) -> Suite:
        if self.content is not None:
            try:
                suite = from_record(self.name, self.content)
            except UserError as error:
                raise ValueError(str(error)) from None
            if suite.digest != self.digest:
                raise ValueError(f"the content has the digest {suite.digest}, not {self.digest}")
        return self


class Request(Shape):
    """requests/KEY.json"""

    cells: list[Cell] | None = None
    suite: Suite | None = None
