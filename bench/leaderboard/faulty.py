"""Versions whose results are known to be wrong: `faulty.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import UserError
from bench.matrix.schema import PluginRecord
from bench.reports.records import Run

FILE = Path(__file__).with_name("faulty.toml")


class Faulty(BaseModel):
    """One faulty version. `source` is the start of a digest of its source; `name` is empty for the engine."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    kind: Literal["attack", "defense", "evaluator", "data", "engine"]
    name: str = ""
    version: str | None = None
    source: str | None = Field(default=None, min_length=6)
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _identifies(self) -> Self:
        if self.version is None and self.source is None:
            raise ValueError("give version or source")
        if (self.kind == "engine") == bool(self.name):
            raise ValueError("give the name of a method, and none for the engine")
        return self

    def is_of(self, kind: str, plugin: PluginRecord) -> bool:
        return (
            (kind, plugin.name) == (self.kind, self.name)
            and self.version in (None, str(plugin.version))
            and (self.source is None or str(plugin.source or "").startswith(self.source))
        )


def load_faulty(file: Path = FILE) -> tuple[Faulty, ...]:
    """The list in a file. Raises UserError naming the file and the entry that is not valid."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
        if tree.keys() - {"faulty"}:
            raise ValueError(f"unknown table '{min(tree.keys() - {'faulty'})}'; entries are [[faulty]]")
        return tuple(Faulty.model_validate(each) for each in tree.get("faulty", []))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{file}: {'.'.join(map(str, first['loc'])) or 'entry'}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from None


def fault_of_attack(run: Run, faults: Sequence[Faulty]) -> str:
    """Why the attack of a run is faulty; empty if it is not known to be."""
    return next(_faults(faults, "attack", run.spec.attack), "")


def fault_of(run: Run, faults: Sequence[Faulty]) -> str:
    """Why anything else behind a run is faulty: engine, data set, defense with what it builds on, evaluators."""
    engines = (each.reason for each in faults if each.kind == "engine" and each.version == str(run.spec.engine))
    measures = [each.record.evaluator for each in run.evaluations if each.record]
    found = (
        *engines,
        *_faults(faults, "data", run.spec.data),
        *_faults(faults, "defense", run.spec.defense),
        *(reason for each in measures for reason in _faults(faults, "evaluator", each)),
    )
    return next(iter(found), "")


def _faults(faults: Sequence[Faulty], kind: str, plugin: PluginRecord | None) -> Iterator[str]:
    while plugin:
        for each in faults:
            if each.is_of(kind, plugin):
                yield f"{plugin.name} {each.version or each.source}: {each.reason}"
        plugin = plugin.builds_on or plugin.beside
        kind = "defense"
