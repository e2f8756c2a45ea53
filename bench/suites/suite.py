"""A suite: rows and columns of a published table, the run behind each cell, and the value printed there.

What a TOML file says:

[base]              what all cells have in common
[[columns]]         label, group; what the cells of the column have in common
[[rows]]            label (one a head); the same of the row; published, a value a column: a number, "-" for a blank of the
                    paper, "" for no cell
[attacks.NAME]      a variant of an attack: plugin, rate
[defenses.NAME]     a variant of a defense: plugin, set, shares, scaled, epochs
[instead.DATA]      what stands in for what where DATA replaces the paper's data sets

A cell is where a row and a column meet: data, attack, defense, model, metric, task of the base, then of the row, then of the
column. `rate`, `scaled` and `epochs` are the paper's absolute values. What runs is that value times what the recipe of the
data set has, over what the paper has as its base (the default of the plugin's parameter, 48 epochs): a replacement keeps the
factors between variants. `set` is taken as it is; `shares` are numbers of the paper's 48 epochs, and what runs is that share of
any run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import UserError, did_you_mean

PAPER = "Yang et al. 2024"
PUBLISHED_EPOCHS = 48
UNDEFENDED = "clip"
NO_ATTACK = "none"
PRINTED_ONLY = "printed"
"""The metric of cells that no run measures."""
MINUS_CLIP = "minus clip"
"""The task of cells that show the mean over tasks less that of the undefended model."""
ALL = "all"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Coordinates(_Part):
    data: str | None = None
    attack: str | None = None
    defense: str | None = None
    model: str | None = None
    metric: str | None = None
    task: str | None = None


class Column(Coordinates):
    label: str
    group: str = ""


class Row(Coordinates):
    label: tuple[str, ...]
    published: tuple[int | float | Literal["-", ""], ...]


class AttackVariant(_Part):
    plugin: str
    rate: float | None = Field(default=None, description="the paper's; scaled as the recipe scales the paper's base rate")


class DefenseVariant(_Part):
    plugin: str
    set: dict[str, Any] = Field(default={}, description="parameters as they are")
    shares: dict[str, float] = Field(default={}, description="parameters that are shares of a run, as epochs of the paper's 48")
    scaled: dict[str, float] = Field(default={}, description="parameters that are scaled like rates")
    epochs: int | None = Field(default=None, description="the paper's, where it is not 48; scaled like rates")


class Instead(_Part):
    """What stands in on a replacement: options for a data set, an attack or a model of the suite; small models for large."""

    data: dict[str, tuple[str, ...]] = {}
    attacks: dict[str, tuple[str, ...]] = {}
    models: dict[str, str] = {}
    trainings: dict[str, tuple[str, ...]] = {}


class Arm(NamedTuple):
    """Runs that differ in the seed alone, in the suite's own names; an empty model is that of the recipe."""

    data: str
    attack: str
    defense: str
    model: str

    @property
    def id(self) -> str:
        return " | ".join([self.data, self.attack, self.defense, *([self.model] if self.model else [])])

    @property
    def undefended(self) -> Arm:
        return self._replace(defense=UNDEFENDED)


class Place(NamedTuple):
    """A cell of the table: the runs it shows and what of them."""

    arm: Arm
    metric: str
    task: str


class Suite(_Part):
    name: str
    title: str
    note: str = ""
    figure: str = Field(default="", description="how to see it, for a figure")
    heads: tuple[str, ...] = ()
    by_size: bool = Field(default=False, description="its data sets differ in size: a replacement needs sizes of its own")
    base: Coordinates = Coordinates()
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    arms_only: tuple[Coordinates, ...] = Field(default=(), description="runs that a figure shows")
    attacks: dict[str, AttackVariant] = {}
    defenses: dict[str, DefenseVariant] = {}
    instead: dict[str, Instead] = {}

    @model_validator(mode="after")
    def _shape(self) -> Suite:
        for row in self.rows:
            if len(row.published) != len(self.columns) or len(row.label) != len(self.heads):
                raise ValueError(f"the row {row.label} needs {len(self.columns)} values and {len(self.heads)} labels")
        return self

    @property
    def label(self) -> str:
        """Table 1."""
        kind = self.name.rstrip("0123456789")
        return f"{kind.capitalize()} {self.name.removeprefix(kind)}"

    def place(self, row: Row, column: Column) -> Place:
        at = _merged(self.base, row, column)
        return Place(_arm(at), at.get("metric", PRINTED_ONLY), at.get("task", ""))

    def places(self) -> Iterator[Place]:
        """Every cell that the table has."""
        for row in self.rows:
            for column, printed in zip(self.columns, row.published, strict=True):
                if printed != "":
                    yield self.place(row, column)

    def arms(self) -> list[Arm]:
        """What is to be run, with the undefended runs that measured cells are compared with."""
        found: dict[Arm, None] = {_arm(_merged(self.base, each)): None for each in self.arms_only}
        for arm, metric, _ in self.places():
            if metric == PRINTED_ONLY:
                continue
            if needs_undefended(metric):
                found[arm.undefended] = None
            found[arm] = None
        return list(found)

    @property
    def data(self) -> list[str]:
        return list(dict.fromkeys(arm.data for arm in self.arms()))


def needs_undefended(metric: str) -> bool:
    return metric == "asr" or metric.startswith("time.")


def names() -> list[str]:
    """All suites: tables, then figures, in the paper's order."""
    found = [path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")]
    return sorted(found, key=lambda name: (name.startswith("figure"), len(name), name))


@cache
def load(name: str) -> Suite:
    """A suite by name. Raises UserError for an unknown one."""
    if name not in names():
        raise UserError(f"--suite {name}: unknown suite; {did_you_mean(name, [*names(), ALL])}")
    try:
        return Suite.model_validate({"name": name, **tomllib.loads((_folder() / f"{name}.toml").read_text("utf-8"))})
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"suites/{name}.toml: {error}") from error


def chosen(wanted: Iterable[str]) -> list[Suite]:
    """The suites of a list, which may say all."""
    found = list(dict.fromkeys(wanted))
    return [load(name) for name in (names() if ALL in found else found)]


def _folder() -> Any:
    return files("bench") / "suites"


def _merged(*parts: Coordinates) -> dict[str, str]:
    fields = Coordinates.model_fields
    return {name: value for part in parts for name in fields if (value := getattr(part, name)) is not None}


def _arm(at: dict[str, str]) -> Arm:
    return Arm(at.get("data", ""), at.get("attack", NO_ATTACK), at.get("defense", UNDEFENDED), at.get("model", ""))
