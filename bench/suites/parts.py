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
"""As --set takes them."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Paper(Part):
    authors: str = Field(min_length=1, description="as in a citation: Yang et al.")
    year: int
    title: str = ""
    link: str = Field(default="", pattern=r"^(https?://\S+)?$", description="arXiv or DOI")
    cite: str = Field(default="", pattern=r"^[\w:./+-]*$", description="BibTeX key, for the LaTeX table")
    epochs: int | None = Field(default=None, ge=1, description="of its usual training; what shares and epochs refer to")

    @property
    def label(self) -> str:
        return f"{self.authors} {self.year}"

    @property
    def citation(self) -> str:
        """The label with title and link."""
        return ". ".join(filter(None, (self.label, self.title, self.link)))


class Coordinates(Part):
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
    rate: Number | None = Field(default=None, description="the paper's; scaled as the recipe scales the plugin's default")
    set: dict[str, Any] = Field(default={}, description="parameters as they are")


class DefenseVariant(Part):
    plugin: str
    set: dict[str, Any] = Field(default={}, description="parameters as they are")
    shares: dict[str, Number] = Field(default={}, description="parameters that are shares of a run, as epochs of the paper's")
    scaled: dict[str, Number] = Field(default={}, description="parameters that are scaled like rates")
    epochs: int | None = Field(default=None, ge=1, description="the paper's, where not its usual ones; scaled like rates")


class Substitutes(Part):
    """On a replacement: options for a data set, an attack or a model of the suite; small models for large."""

    data: dict[str, Options] = {}
    attacks: dict[str, Options] = {}
    models: dict[str, str] = {}
    trainings: dict[str, Options] = {}


class Unsupported(Part):
    """Methods that may have no plugin: their cells then show the published value alone."""

    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
