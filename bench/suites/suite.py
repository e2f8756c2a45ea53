"""A suite: rows and columns of a published table, the run behind each cell, and the published value.

`docs/adding-a-suite.md` explains the file field by field.

The data set, attack, defense, model, metric and task of a cell come from the column, else from the row, else from the base.
`rate`, `scaled` and `epochs` are the paper's absolute values. A run uses that value, multiplied by the recipe's value and
divided by the base value (the default of the plugin's parameter, or the epochs of the paper), so that a replacement data set
keeps the ratios between variants. `set` is used unchanged; `shares` are given in epochs of the paper and keep their share of
any run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bench.canonical import digest
from bench.errors import did_you_mean
from bench.suites.parts import AttackVariant, Column, Coordinates, DefenseVariant, Paper, Part, Row, Substitutes, Unsupported

UNDEFENDED = "clip"
NO_ATTACK = "none"
PRINTED_ONLY = "printed"
"""The metric of cells that are published only, not measured."""
MINUS_CLIP = "minus clip"
"""The task of cells that show the mean over tasks minus that of the undefended model."""
NO_PLUGIN = "no plugin named "
"""The start of the reason why a condition with an unsupported method was not run."""


class Condition(NamedTuple):
    """Runs that differ only in the seed, with the suite's names; an empty model is that of the recipe."""

    data: str
    attack: str
    defense: str
    model: str

    @property
    def id(self) -> str:
        return " | ".join([self.data, self.attack, self.defense, *([self.model] if self.model else [])])

    @property
    def undefended(self) -> Condition:
        return self._replace(defense=UNDEFENDED)


class TableCell(NamedTuple):
    """What a cell of the table shows: a metric of some runs."""

    condition: Condition
    metric: str
    task: str


class Suite(Part):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    file: str = Field(default="", exclude=True, description="where it was read from; empty for a built-in suite")
    label: str = Field(description="Table 1")
    paper: Paper
    title: str
    note: str = ""
    figure: str = Field(default="", description="for a figure: where to see it")
    draws: Literal["examples", "splits", "overlaps", ""] = Field(
        default="", description="the figure of the report that reproduces it"
    )
    headers: tuple[str, ...] = Field(default=(), description="headers of the columns with row labels")
    by_size: bool = Field(default=False, description="its data sets differ in size, so a replacement needs several sizes")
    base: Coordinates = Coordinates()
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    runs: tuple[Coordinates, ...] = Field(default=(), description="for a figure: the runs it shows")
    attacks: dict[str, AttackVariant] = {}
    defenses: dict[str, DefenseVariant] = {}
    unsupported: Unsupported = Unsupported()
    substitutes: dict[str, Substitutes] = {}

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if not ((self.rows and self.columns) or self.runs or self.figure):
            raise ValueError("a table needs [[columns]] and [[rows]]")
        self._check_rows()
        self._check_cells()
        if self.paper.epochs is None:
            for name, variant in self.defenses.items():
                if variant.shares or variant.epochs:
                    raise ValueError(
                        f'[defenses."{name}"]: shares and epochs refer to the epochs of the paper: set paper.epochs'
                    )
        self._check_names()
        return self

    def _check_rows(self) -> None:
        for row in self.rows:
            where = f"row {' / '.join(row.label)!r}"
            if len(row.published) != len(self.columns):
                raise ValueError(
                    f'{where}: {len(row.published)} published values for {len(self.columns)} columns; write "" where the table '
                    'has no cell and "-" where the paper leaves it blank'
                )
            if len(row.label) != len(self.headers):
                raise ValueError(f"{where}: {len(row.label)} labels for {len(self.headers)} headers")

    def _check_cells(self) -> None:
        for where, cell in self.labelled_cells():
            if cell.metric != PRINTED_ONLY and not cell.condition.data:
                raise ValueError(f"{where}: no data set; give `data` in base, the row or the column")
            if cell.metric == "asr" and cell.condition.attack == NO_ATTACK:
                raise ValueError(f"{where}: no attack for the ASR; give `attack` in base, the row or the column")

    def _check_names(self) -> None:
        """Check that substitutes and unsupported methods occur in the suite."""
        conditions = self.conditions()
        used = {part: {getattr(each, part) for each in conditions} for part in Condition._fields}
        methods = [self.plugins_of(condition) for condition in conditions]
        named = {
            "unsupported.attacks": (self.unsupported.attacks, {attack for attack, _ in methods}),
            "unsupported.defenses": (self.unsupported.defenses, {defense for _, defense in methods}),
        }
        for data, each in self.substitutes.items():
            named |= {
                f"substitutes.{data}.data": (tuple(each.data), used["data"]),
                f"substitutes.{data}.attacks": (tuple(each.attacks), used["attack"]),
                f"substitutes.{data}.models": (tuple(each.models), used["model"]),
                f"substitutes.{data}.trainings": (tuple(each.trainings), used["model"]),
            }
        for section, (given, known) in named.items():
            for name in given:
                if name not in known:
                    raise ValueError(f"{section}: the suite has no '{name}'; {did_you_mean(name, known - {''})}")

    @property
    def builtin(self) -> bool:
        return not self.file

    @property
    def cli_name(self) -> str:
        """The value of --suite for this suite: its name or file."""
        return self.file or self.name

    @property
    def reference(self) -> str:
        """For example, Table 1 of Yang et al. 2024."""
        return f"{self.label} of {self.paper.label}"

    def printed(self, published: int | float | str) -> str:
        """A cell's published value as text: a dash where there is none, nothing if no cell of the suite has one."""
        if published == "-":
            return "–" if self._compares else ""
        return str(published) if isinstance(published, str) else str(published).replace("-", "−")

    @cached_property
    def _compares(self) -> bool:
        return any(not isinstance(value, str) for row in self.rows for value in row.published)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of its file, as JSON data."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"name"})

    @cached_property
    def digest(self) -> str:
        return digest(self.content)

    @property
    def epochs(self) -> int:
        """Epochs of the paper's standard training; validation makes sure that they are given if anything refers to them."""
        assert self.paper.epochs is not None
        return self.paper.epochs

    def condition(self, *parts: Coordinates) -> Condition:
        at = self._merged(*parts)
        return Condition(at.get("data", ""), at.get("attack", NO_ATTACK), at.get("defense", UNDEFENDED), at.get("model", ""))

    def cell(self, row: Row, column: Column) -> TableCell:
        at = self._merged(row, column)
        return TableCell(self.condition(row, column), at.get("metric", PRINTED_ONLY), at.get("task", ""))

    def labelled_cells(self) -> Iterator[tuple[str, TableCell]]:
        """Yield every cell of the table, with a description of its position."""
        for row in self.rows:
            for column, printed in zip(self.columns, row.published, strict=True):
                if printed != "":
                    where = f"row {' / '.join(row.label)!r}, column {f'{column.group} {column.label}'.strip()!r}"
                    yield where, self.cell(row, column)

    def cells(self) -> list[TableCell]:
        return [cell for _, cell in self.labelled_cells()]

    def conditions(self) -> list[Condition]:
        """The conditions to run, including the undefended runs for comparison."""
        found = {self.condition(each): None for each in self.runs}
        for condition, metric, _ in self.cells():
            if metric == PRINTED_ONLY:
                continue
            if needs_undefended(metric):
                found[condition.undefended] = None
            found[condition] = None
        return list(found)

    def settings_of(self, condition: Condition, replacement: str | None) -> tuple[Any, ...]:
        """Everything in the suite that determines the runs of a condition; equal settings give equal runs."""
        there = self.substitutes.get(replacement or "", Substitutes())
        return (
            self.attacks.get(condition.attack),
            self.defenses.get(condition.defense),
            self.paper.epochs,
            there.data.get(condition.data),
            there.attacks.get(condition.attack),
            there.models.get(condition.model),
            there.trainings.get(condition.model),
        )

    def _merged(self, *parts: Coordinates) -> dict[str, str]:
        fields = Coordinates.model_fields
        return {name: value for part in (self.base, *parts) for name in fields if (value := getattr(part, name)) is not None}

    def plugins_of(self, condition: Condition) -> tuple[str, str]:
        """The names of the attack and defense plugins of a condition."""
        attack, defense = self.attacks.get(condition.attack), self.defenses.get(condition.defense)
        return attack.plugin if attack else condition.attack, defense.plugin if defense else condition.defense

    @property
    def data(self) -> list[str]:
        return list(dict.fromkeys(condition.data for condition in self.conditions()))


def needs_undefended(metric: str) -> bool:
    return metric == "asr" or metric.startswith("time.")
