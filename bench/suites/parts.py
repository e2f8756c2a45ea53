"""The sections of a suite file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MetricName = Literal[
    "asr", "zero_shot", "linear_probe", "safe_poison_recall", "safe_poison_rate", "safe_share", "time.unimodal", "time.mixed",
    "time.update", "time.epoch", "time.increase", "setting.lr", "setting.low_lr", "setting.batch_size", "printed",
]  # fmt: skip
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Options = tuple[str, ...]
"""Options as given to --set."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Paper(Part):
    authors: str = Field(min_length=1, description="as in a citation: Yang et al.")
    year: int
    title: str = ""
    link: str = Field(default="", pattern=r"^(https?://\S+)?$", description="arXiv or DOI")
    cite: str = Field(default="", pattern=r"^[\w:./+-]*$", description="BibTeX key, for the LaTeX table")
    epochs: int | None = Field(default=None, ge=1, description="of its standard training; `shares` and `epochs` refer to it")

    @property
    def label(self) -> str:
        return f"{self.authors} {self.year}"

    @property
    def citation(self) -> str:
        """Label, title and link."""
        return ". ".join(filter(None, (self.label, self.title, self.link)))


class Coordinates(Part):
    """What a cell of the table shows; missing values are inherited."""

    data: str | None = None
    attack: str | None = None
    defense: str | None = None
    model: str | None = None
    metric: MetricName | None = None
    task: str | None = None


class Column(Coordinates):
    label: str
    group: str = ""


class Row(Coordinates):
    label: tuple[str, ...]
    published: tuple[Annotated[int, Field(strict=True)] | Number | Literal["-", ""], ...]


class AttackVariant(Part):
    plugin: str
    rate: Number | None = Field(
        default=None, description="the paper's poison rate; scaled like the plugin's default by the recipe"
    )
    set: dict[str, Any] = Field(default={}, description="parameters as they are")


class DefenseVariant(Part):
    plugin: str
    set: dict[str, Any] = Field(default={}, description="parameters as they are")
    shares: dict[str, Number] = Field(
        default={}, description="parameters that are shares of a run, given in epochs of the paper"
    )
    scaled: dict[str, Number] = Field(default={}, description="parameters that are scaled like rates")
    epochs: int | None = Field(
        default=None, ge=1, description="the paper's, if not those of its standard training; scaled like rates"
    )


class Substitutes(Part):
    """For a replacement data set: options for data sets, attacks and models of the suite, and models to use instead."""

    data: dict[str, Options] = {}
    attacks: dict[str, Options] = {}
    models: dict[str, str] = {}
    trainings: dict[str, Options] = {}


class Unsupported(Part):
    """Methods that may have no plugin; their cells then only show the published value."""

    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
