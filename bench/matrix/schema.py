"""What the records of a results folder are, for their writer and their readers alike.

A part that is not named here may be anything and is kept. A part that a record lacks has its default, and so has a null where
the default is empty; `dump` gives a record back as it was written. What plugins say in words of their own stays a mapping:
parameters, telemetry, facts of a data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator, model_validator

from bench.canonical import digest, identity
from bench.errors import UserError
from bench.matrix.reading import Damaged
from bench.meaning import Meaning
from bench.suites.library import from_record

SCHEMA = 2
"""Of the records that are written. Schema 1 is read too: its keys hold no revision of the engine and no digests."""
READABLE = (1, SCHEMA)

LARGEST = 1e100
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), WrapValidator(lambda value, check: (check(value), value)[1])]
"""A measured number; sums of them stay finite. It stays as it was written, 1 or 1.0."""
Count = Annotated[int, Field(ge=0)]
Key = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
"""Names a folder."""
_OrNone = BeforeValidator(lambda value: {} if value is None else value)
_OrEmpty = BeforeValidator(lambda value: [] if value is None else value)


class Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Raises Damaged, with the first part that is of another kind."""
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise Damaged(first["msg"].removeprefix("Input ").partition(" or instance of")[0], *first["loc"]) from None

    def dump(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class Params(Part):
    """Parameters in a plugin's own words."""


class Plugin(Part):
    """A plugin of a run, as its spec holds it: `bench.config.PluginSpec`."""

    name: str
    version: Any = None
    source: Any = None
    params: Annotated[Params, _OrNone] = Params()
    builds_on: Plugin | None = None
    beside: Plugin | None = None

    @cached_property
    def identity(self) -> str:
        return identity(self.dump())


class AttackParams(Params):
    rate: Number | None = None


class Attack(Plugin):
    params: Annotated[AttackParams, _OrNone] = AttackParams()


class Model(Plugin):
    """`weights` is the digest of the file that the cell starts from; None is from scratch."""

    weights: str | None = None


class Train(Part):
    epochs: Count | None = None
    batch_size: Count | None = None
    lr: Number | None = None


class Spec(Part):
    """The identity of a run: `bench.config.RunSpec`."""

    engine: Any = None
    data: Plugin | None = None
    model: Model | None = None
    attack: Attack | None = None
    defense: Plugin | None = None
    train: Annotated[Train, _OrNone] = Train()
    seed: int = 0


class Timing(Part):
    """Seconds; `stages` by their names."""

    train_seconds: Number | None = None
    pairs_per_second: Number | None = None
    builds_on_seconds: Number | None = None
    stages: Annotated[dict[str, Number], _OrNone] = {}


class CurvePoint(Part):
    """An epoch, counted from 0."""

    epoch: Count | None = None
    loss: Number | None = None
    seconds: Number | None = None
    clip_steps: Count | None = None
    clip_pairs: Count | None = None

    @property
    def telemetry(self) -> Mapping[str, Any]:
        """What else the trainer and the defense tell of it."""
        return self.model_extra or {}

    def number(self, name: str) -> float | None:
        """A number of the telemetry; None where there is none of that name."""
        value = self.telemetry.get(name)
        sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        return value if sound else None

    def share(self, name: str) -> float | None:
        """A number of the telemetry in [0, 1]; None where there is none."""
        value = self.number(name)
        return value if value is not None and 0 <= value <= 1 else None

    def counts(self, name: str, bins: int) -> tuple[int, ...] | None:
        """A histogram of the telemetry; None where there is none of so many bins."""
        found = self.telemetry.get(name)
        if not isinstance(found, list) or len(found) != bins:
            return None
        return tuple(found) if all(type(count) is int and count >= 0 for count in found) else None


class Limit(Part):
    """A limit that the defense declares, with the value that the run has and whether that is within."""

    what: str
    advice: str
    engaged: bool
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unit: str = "fraction"


class Examples(Part):
    """Similarities of some training pairs: a row an image, a column a caption."""

    labels: list[str]
    values: list[list[Number]]

    @property
    def poison(self) -> int | None:
        """Which of them is poisoned."""
        return self.labels.index("poison") if "poison" in self.labels else None


class PoisonSummary(Part):
    hash: Any = None
    added: Count = 0
    replaced: Count = 0
    targets: Annotated[list[str], _OrEmpty] = []
    captions: Annotated[list[str], _OrEmpty] = []

    @property
    def pairs(self) -> int:
        return self.added + self.replaced


class TrainingData(Part):
    train_pairs: Count | None = None
    facts: Annotated[dict[str, Any], _OrNone] = {}


class Weights(Part):
    sha256: str


class RunRecord(Part):
    """run.json"""

    spec: Spec | None = None
    provenance: Annotated[dict[str, Any], _OrNone] = {}
    timing: Annotated[Timing, _OrNone] = Timing()
    curves: Annotated[list[CurvePoint], _OrEmpty] = []
    meaning: Meaning | None = None
    engagement: Annotated[list[Limit], _OrEmpty] = []
    examples: Examples | None = None
    poison: PoisonSummary | None = None
    data: Annotated[TrainingData, _OrNone] = TrainingData()
    weights: Weights = Weights(sha256="")


class Metric(Part):
    """A metric as its evaluator declares it."""

    name: str
    unit: str = "fraction"
    better: str = "neither"
    description: str = ""


class Measurement(Part):
    metric: str
    task: str
    value: Number | None
    n: Count | None = None
    ci_low: Number | None = None
    ci_high: Number | None = None


class Downstream(Part):
    """Downstream sets that were left out or are not whole, each with the reason."""

    skipped: Annotated[dict[str, str], _OrNone] = {}
    partial: Annotated[dict[str, str], _OrNone] = {}


class EvalRecord(Part):
    """evals/NAME-KEY.json"""

    eval_key: Any = None
    evaluator: Plugin | None = None
    clean_run_key: Any = None
    metrics: Annotated[list[Metric], _OrEmpty] = []
    measurements: Annotated[list[Measurement], _OrEmpty] = []
    downstream: Downstream | None = None
    finished: Any = None


class Failure(Part):
    """failure.json"""

    stage: str = ""
    error: str = ""
    traceback: str = ""


class AskedEvaluation(Part):
    name: str
    eval_key: Any = None
    unsupported: str | None = None


class AskedCell(Part):
    """A cell as a report needs it, whether or not it ever runs; `recipe` is the one that was asked for."""

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
    evaluators: Annotated[list[AskedEvaluation], _OrEmpty] = []


class AskedSuite(Part):
    """`content` is what the file of a suite said that is not built in, `weights` the digests of those that cells start from."""

    name: str
    content: dict[str, Any] | None = None
    digest: str | None = None
    instead: str | None = None
    model: str | None = None
    precision: str | None = None
    options: Annotated[list[Any], _OrEmpty] = []
    recipe: str | None = None
    weights: Annotated[list[str], _OrEmpty] = []
    runs: Annotated[dict[str, list[str]], _OrNone] = {}
    reasons: Annotated[dict[str, str], _OrNone] = {}

    @model_validator(mode="after")
    def _reads(self) -> Self:
        if self.content is not None:
            try:
                suite = from_record(self.name, self.content)
            except UserError as error:
                raise ValueError(str(error)) from None
            if suite.digest != self.digest:
                raise ValueError(f"the content has the digest {suite.digest}, not {self.digest}")
        return self


class RequestRecord(Part):
    """requests/KEY.json"""

    cells: Annotated[list[AskedCell], _OrEmpty] = []
    suite: AskedSuite | None = None

    @property
    def key(self) -> str:
        return digest(self.dump())
