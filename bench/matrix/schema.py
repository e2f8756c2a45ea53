"""The schema of the records in a results folder, for writing and reading.

Unknown fields are kept as they are. A missing field has its default, and so has a null if the default is empty; `dump` gives
a record back as it was written. Parameters, telemetry and data set facts, whose names plugins choose, stay mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator

from bench.canonical import identity
from bench.matrix.reading import Damaged
from bench.meaning import Meaning

SCHEMA = 2
"""Version that is written. Schema 1 is read too; its run keys hold no engine version and no digests."""
READABLE = (1, SCHEMA)

LARGEST = 1e100
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), WrapValidator(lambda value, check: (check(value), value)[1])]
"""A number small enough that sums stay finite; an int stays an int."""
Count = Annotated[int, Field(ge=0)]
Key = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
"""The name of a folder."""
OrNone = BeforeValidator(lambda value: {} if value is None else value)
OrEmpty = BeforeValidator(lambda value: [] if value is None else value)


class RecordModel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Validate a record. Raises Damaged naming the first invalid field."""
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise Damaged(first["msg"].removeprefix("Input ").partition(" or instance of")[0], *first["loc"]) from None

    def dump(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class ParamsRecord(RecordModel):
    """The parameters of a plugin."""


class PluginRecord(RecordModel):
    """A `bench.config.PluginSpec`."""

    name: str
    version: Any = None
    source: Any = None
    params: Annotated[ParamsRecord, OrNone] = ParamsRecord()
    builds_on: PluginRecord | None = None
    beside: PluginRecord | None = None

    @cached_property
    def identity(self) -> str:
        return identity(self.dump())


class AttackParamsRecord(ParamsRecord):
    rate: Number | None = None


class AttackRecord(PluginRecord):
    params: Annotated[AttackParamsRecord, OrNone] = AttackParamsRecord()


class ModelRecord(PluginRecord):
    """`weights` is the digest of the file that the cell starts from; None is from scratch."""

    weights: str | None = None


class TrainRecord(RecordModel):
    epochs: Count | None = None
    batch_size: Count | None = None
    lr: Number | None = None
    precision: str | None = None


class SpecRecord(RecordModel):
    """A `bench.config.RunSpec`, the identity of a run."""

    engine: Any = None
    data: PluginRecord | None = None
    model: ModelRecord | None = None
    attack: AttackRecord | None = None
    defense: PluginRecord | None = None
    train: Annotated[TrainRecord, OrNone] = TrainRecord()
    seed: int = 0


class Timing(RecordModel):
    """Durations in seconds; `stages` maps names of stages to them."""

    train_seconds: Number | None = None
    pairs_per_second: Number | None = None
    builds_on_seconds: Number | None = None
    stages: Annotated[dict[str, Number], OrNone] = {}


class CurvePoint(RecordModel):
    """One epoch, from 0; further fields are telemetry."""

    epoch: Count | None = None
    loss: Number | None = None
    seconds: Number | None = None
    clip_steps: Count | None = None
    clip_pairs: Count | None = None

    @property
    def telemetry(self) -> Mapping[str, Any]:
        """The fields that the trainer and the defense add."""
        return self.model_extra or {}

    def number(self, name: str) -> float | None:
        """A telemetry field; None if it is missing or not a number."""
        value = self.telemetry.get(name)
        sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        return value if sound else None

    def share(self, name: str) -> float | None:
        """A telemetry field in [0, 1]; None if it is missing or out of range."""
        value = self.number(name)
        return value if value is not None and 0 <= value <= 1 else None

    def counts(self, name: str, bins: int) -> tuple[int, ...] | None:
        """A telemetry histogram; None if it is missing or has another number of bins."""
        found = self.telemetry.get(name)
        if not isinstance(found, list) or len(found) != bins:
            return None
        return tuple(found) if all(type(count) is int and count >= 0 for count in found) else None


class LimitRecord(RecordModel):
    """An engagement limit of the defense, with the run's value and whether it is within the limit."""

    what: str
    advice: str
    engaged: bool
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unit: str = "fraction"


class Examples(RecordModel):
    """Cosine similarities of some training pairs; rows are images, columns captions."""

    labels: list[str]
    values: list[list[Number]]

    @property
    def poison(self) -> int | None:
        """The index of the poisoned pair, if any."""
        return self.labels.index("poison") if "poison" in self.labels else None


class PoisonSummary(RecordModel):
    hash: Any = None
    added: Count = 0
    replaced: Count = 0
    targets: Annotated[list[str], OrEmpty] = []
    captions: Annotated[list[str], OrEmpty] = []

    @property
    def pairs(self) -> int:
        return self.added + self.replaced


class TrainingData(RecordModel):
    train_pairs: Count | None = None
    facts: Annotated[dict[str, Any], OrNone] = {}


class Weights(RecordModel):
    sha256: str


class Provenance(RecordModel):
    """Where a record comes from; not part of a run's key.

    Attributes
    ----------
    commit : str or None
        Of the checkout, with a + if it was dirty; None outside a checkout.
    started, finished : str
        UTC, in ISO format.
    pretrained : str
        Tag of open_clip or file name of the weights that training starts from.
    trained, file, sha256 : str
        "elsewhere", with the file name and digest of the checkpoint, for a model that was not trained here.
    """

    bench: str = ""
    commit: str | None = None
    python: str = ""
    torch: str = ""
    machine: str = ""
    processes: Count = 1
    threads: Count = 1
    device: str = ""
    command: str = ""
    started: str = ""
    finished: str = ""
    pretrained: str = ""
    deterministic: bool = False
    trained: str = ""
    file: str = ""
    sha256: str = ""


class RunRecord(RecordModel):
    """run.json"""

    spec: SpecRecord | None = None
    provenance: Annotated[Provenance, OrNone] = Provenance()
    timing: Annotated[Timing, OrNone] = Timing()
    curves: Annotated[list[CurvePoint], OrEmpty] = []
    meaning: Meaning | None = None
    engagement: Annotated[list[LimitRecord], OrEmpty] = []
    examples: Examples | None = None
    poison: PoisonSummary | None = None
    data: Annotated[TrainingData, OrNone] = TrainingData()
    weights: Weights = Weights(sha256="")


class MetricRecord(RecordModel):
    """A metric as its evaluator declares it."""

    name: str
    unit: str = "fraction"
    better: str = "neither"
    description: str = ""
    role: str = "number"
    axis: str = ""


class MeasurementRecord(RecordModel):
    metric: str
    task: str
    value: Number | None
    n: Count | None = None
    ci_low: Number | None = None
    ci_high: Number | None = None


class DownstreamRecord(RecordModel):
    """Downstream sets that were skipped or are incomplete, each with the reason."""

    skipped: Annotated[dict[str, str], OrNone] = {}
    partial: Annotated[dict[str, str], OrNone] = {}


class PredictionsRecord(RecordModel):
    """evals/NAME-KEY.npz: its digest and its number of rows."""

    sha256: str
    rows: Count = 0


class EvalRecord(RecordModel):
    """evals/NAME-KEY.json"""

    eval_key: Any = None
    evaluator: PluginRecord | None = None
    clean_run_key: Any = None
    metrics: Annotated[list[MetricRecord], OrEmpty] = []
    measurements: Annotated[list[MeasurementRecord], OrEmpty] = []
    downstream: DownstreamRecord | None = None
    predictions: PredictionsRecord | None = None
    finished: Any = None


class Failure(RecordModel):
    """failure.json"""

    stage: str = ""
    error: str = ""
    traceback: str = ""
