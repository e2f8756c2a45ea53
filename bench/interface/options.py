"""The options of a run, shared by the command line, --config files and `bench.run`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench import recipe as recipes
from bench.errors import UserError, did_you_mean
from bench.interface.toml import toml_value
from bench.interface.values import as_strings, parse_names, parse_seeds
from bench.recipe import Recipe


def parse_settings(values: object) -> list[str]:
    """PATH=VALUE strings from one, several, or nested tables: `{"train": {"epochs": 2}}` is `train.epochs=2`."""
    if isinstance(values, Mapping):
        return list(_leaves(values))
    given = as_strings(values)
    if given is None:
        raise UserError(f"--set {values!r}: expected PATH=VALUE, a list of them, or tables such as {{train: {{epochs: 2}}}}")
    return given


def _slurm(values: object) -> list[str]:
    """KEY=VALUE strings from one, several, or a table."""
    given = list(_leaves(values)) if isinstance(values, Mapping) else as_strings(values)
    if given is None:
        raise UserError(f"--slurm {values!r}: expected KEY=VALUE, a list of them, or a table such as {{partition: gpu}}")
    return given


def _leaves(tree: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}={toml_value(value)}"


def _files(values: object) -> object:
    given = [values] if isinstance(values, str | Path) else values
    return [str(file) if isinstance(file, Path) else file for file in given] if isinstance(given, Iterable) else given


def _recipe(value: object) -> object:
    return recipes.inline(value) if isinstance(value, Mapping) else value


def _jobs(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(parse_seeds)]
Settings = Annotated[tuple[str, ...], BeforeValidator(parse_settings)]
SlurmSettings = Annotated[tuple[str, ...], BeforeValidator(_slurm)]
Files = Annotated[tuple[str, ...], BeforeValidator(_files)]
RecipeValue = Annotated[str | Recipe | None, BeforeValidator(_recipe)]
Jobs = Annotated[str | None, BeforeValidator(_jobs)]


class RunOptions(BaseModel):
    """Options as named by `bench run`; None is an option that was not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    attack: Names = ("badnet", "tdpa")
    defense: Names = ("clip",)
    suite: Names = ()
    data: str | None = None
    data_root: Path | None = None
    downstream_root: Path | None = None
    evaluator: Names = ("asr", "zero_shot", "linear_probe")
    model: str | None = None
    pretrained: str | None = None
    recipe: RecipeValue = None
    seeds: Seeds = (0,)
    set: Settings = ()
    plugin: Files = ()
    out: Path = Path("results")
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    jobs: Jobs = None
    shard: str | None = None
    executor: Literal["local", "ray", "submitit"] = "local"
    ray_address: str | None = None
    cpus_per_cell: int | None = Field(default=None, ge=1)
    gpus_per_cell: float | None = Field(default=None, ge=0)
    slurm: SlurmSettings = ()
    track: Literal["tensorboard", "wandb"] | None = None
    controls: bool = False
    grad_checkpointing: bool = False
    deterministic: bool = False
    dry_run: bool = False
    retry_failed: bool = False
    checkpoint_minutes: float = Field(default=5.0, ge=0)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Validate options. Raises UserError naming one that is unknown or has a bad value."""
        for name in given:
            if name not in cls.model_fields:
                raise UserError(f"{name}: unknown option; {did_you_mean(name, cls.model_fields)}")
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str(first["loc"][0]).replace("_", "-")
            raise UserError(f"{option}: {first['msg']}, got {first.get('input')!r}") from None

    @property
    def checkpoint_seconds(self) -> float:
        return 60 * self.checkpoint_minutes

    @property
    def settings(self) -> tuple[str, ...]:
        """The options of --set and --pretrained, as PATH=VALUE."""
        return (*self.set, *([f"{recipes.PRETRAINED}={toml_value(self.pretrained)}"] if self.pretrained else ()))

    def command_line(self) -> tuple[str, ...]:
        """The equivalent arguments of `bench`."""
        found = ["run"]
        for name, field in type(self).model_fields.items():
            value, option = getattr(self, name), "--" + name.replace("_", "-")
            if value == field.default or (isinstance(value, Recipe) and not value.name):
                continue
            if value is True:
                found.append(option)
            elif name in ("set", "plugin", "slurm"):
                found += [word for each in value for word in (option, each)]
            else:
                found += [option, _word(value)]
        return tuple(found)


def _word(value: Any) -> str:
    if isinstance(value, Recipe):
        return value.name
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
