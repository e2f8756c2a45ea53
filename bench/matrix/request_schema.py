"""The schema of requests in a results folder: which cells, and of which suite."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import model_validator

from bench.canonical import digest
from bench.errors import UserError
from bench.matrix.schema import Key, Number, OrEmpty, OrNone, RecordModel, SpecRecord
from bench.suites.library import from_record


class RequestedEvaluation(RecordModel):
    name: str
    eval_key: Any = None
    unsupported: str | None = None


class RequestedCell(RecordModel):
    """A cell as reports need it, whether or not it has been run; `recipe` is the requested recipe."""

    run_key: Key
    data: str | None = None
    model: str | None = None
    attack: str | None = None
    attack_rate: Number | None = None
    defense: str | None = None
    seed: int = 0
    recipe: str | None = None
    spec: SpecRecord | None = None
    unsupported: str | None = None
    evaluators: Annotated[list[RequestedEvaluation], OrEmpty] = []


class RequestedSuite(RecordModel):
    """A requested suite.

    `content` is that of its file unless it is built in, `instead` the replacing data set, `weights` the digests of the weights
    that its cells start from.
    """

    name: str
    content: dict[str, Any] | None = None
    digest: str | None = None
    instead: str | None = None
    model: str | None = None
    precision: str | None = None
    options: Annotated[list[Any], OrEmpty] = []
    recipe: str | None = None
    weights: Annotated[list[str], OrEmpty] = []
    runs: Annotated[dict[str, list[str]], OrNone] = {}
    reasons: Annotated[dict[str, str], OrNone] = {}

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


class RequestRecord(RecordModel):
    """requests/KEY.json"""

    cells: Annotated[list[RequestedCell], OrEmpty] = []
    suite: RequestedSuite | None = None

    @property
    def key(self) -> str:
        return digest(self.dump())
