"""What determines a run's numbers, as frozen values; recipes and --set options resolve to them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import sources
from bench.api.plugin import Params, Plugin
from bench.canonical import digest
from bench.errors import UserError, did_you_mean
from bench.models import factory
from bench.registry import Entry, Registry


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelOptions(Spec):
    name: str = Field(description="an open_clip architecture or a configuration of this project")


class ModelSpec(ModelOptions):
    """`config`: the digest of open_clip's configuration of that name."""

    config: str


class TrainSpec(Spec):
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1, description="by the model where no recipe gives it, as eps is")
    eps: float = Field(default=1e-8, gt=0)
    warmup_epochs: float = Field(default=0.5, ge=0, description="linear warm-up, in epochs; then cosine to 0")
    crop: float = Field(default=0.9, gt=0, le=1, description="smallest area share of the random crop; 1 turns it off")
    strong_crop: float = Field(default=0.08, gt=0, le=1, description="the same for SimCLR's pipeline")
    strong_colour: float = Field(default=1.0, ge=0, le=1, description="strength of its colour changes; 1 is SimCLR's")
    eda_alpha: float = Field(default=0.1, ge=0, le=1, description="strength of EDA on captions; 0 turns it off")
    thesaurus: Literal["auto", "dataset", "wordnet", "none"] = Field(default="auto", description="where EDA takes synonyms")
    precision: Literal["fp32", "bf16"] = "fp32"


class PluginSpec(Spec):
    """A plugin with its parameters; `builds_on` is the defense whose trained model it starts from, filters with or is crafted
    against, `beside` the one that it is a control of.
    """

    name: str
    version: str
    source: str | None = None
    params: dict[str, Any]
    builds_on: PluginSpec | None = None
    beside: PluginSpec | None = None


class DataSpec(PluginSpec):
    fingerprint: str


class RunSpec(Spec):
    """Identity of one cell: everything that determines the trained weights on one machine."""

    engine: str = Field(default_factory=sources.engine)
    data: DataSpec
    attack: PluginSpec | None
    defense: PluginSpec
    model: ModelSpec
    train: TrainSpec
    seed: int


M = TypeVar("M", bound=BaseModel)
SECTIONS = ("data", "attack", "defense", "evaluator", "model", "train")


class Settings:
    """A recipe with the user's --set options on top; hands out validated values."""

    def __init__(self, data: str, options: Sequence[str] = (), model: str | None = None) -> None:
        self.asked = data, tuple(options), model
        self._recipe = _recipe(data)
        self._user: dict[str, Any] = {"model": {"name": model}} if model else {}
        self._tree = _merged(self._recipe, self._user)
        self._set_by_user: set[tuple[str, ...]] = set()
        for option in options:
            self._apply(option)

    def _apply(self, option: str) -> None:
        path, equals, text = option.partition("=")
        keys = path.strip().split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise UserError(f"--set {option}: write it as section.option=value, for example train.epochs=2")
        if keys[0] not in SECTIONS:
            raise UserError(f"--set {path}: unknown section '{keys[0]}'; {did_you_mean(keys[0], SECTIONS)}")
        value = _parse(text)
        if not _is_finite(value):
            raise UserError(f"--set {path}: a finite number is needed, got {value!r}")
        for tree in (self._tree, self._user):
            branch = tree
            for key in keys[:-1]:
                branch = branch.setdefault(key, {})
                if not isinstance(branch, dict):
                    raise UserError(f"--set {path}: '{key}' is a value and has no option '{keys[-1]}'")
            branch[keys[-1]] = value
        self._set_by_user.add(tuple(keys))

    @property
    def model(self) -> ModelSpec:
        name = _validate(ModelOptions, self._tree.get("model", {}), "model").name
        return ModelSpec(name=name, config=digest(factory.config(name)))

    def train(self, precision: str | None = None, defaults: Mapping[str, float] | None = None) -> TrainSpec:
        """The training section; `defaults` stand where neither recipe nor user gives a value."""
        tree = {**(defaults or {}), **self._tree.get("train", {})}
        if precision:
            tree["precision"] = precision
        return _validate(TrainSpec, tree, "train")

    def data(self, plugin: type[Plugin]) -> Params:
        return _validate(plugin.Params, self._tree.get("data", {}), "data")

    def plugin(self, section: str, entry: Entry, registry: Registry) -> PluginSpec:
        """The plugin's parameters: its defaults, then the recipe's, then the user's; in both, those of the section come
        before those under the plugin's own name.
        """
        fields = entry.plugin.Params.model_fields
        values: dict[str, Any] = {}
        for tree in (self._recipe.get(section, {}), self._user.get(section, {})):
            own = tree.get(entry.plugin.name, {})
            if not isinstance(own, dict):
                raise UserError(f"--set {section}.{entry.plugin.name}: name one of its options too: {', '.join(fields)}")
            shared = {key: value for key, value in tree.items() if key in fields and key not in registry.names()}
            values = _merged(_merged(values, shared), own)
        params = _validate(entry.plugin.Params, values, f"{section}.{entry.plugin.name}")
        return PluginSpec(**entry.identity(), params=params.model_dump(mode="json"))

    def check_options(self, section: str, chosen: Iterable[Entry], registry: Registry) -> None:
        """Refuse --set options of a section that no chosen plugin has, and bad ones under the name of another plugin."""
        known = {field for entry in chosen for field in entry.plugin.Params.model_fields}
        for path in self._set_by_user:
            if path[0] != section:
                continue
            if path[1] in registry.names():
                self.plugin(section, registry[path[1]], registry)
            elif path[1] not in known:
                raise UserError(
                    f"--set {'.'.join(path)}: unknown option '{path[1]}'; {did_you_mean(path[1], {*known, *registry.names()})}"
                )


def _recipe(data: str) -> dict[str, Any]:
    folder = files("bench") / "recipes"
    recipe = folder / f"{data}.toml"
    text = (recipe if recipe.is_file() else folder / "default.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()


def _is_finite(value: Any) -> bool:
    """Whether JSON has a word for every number in it."""
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return False
    return True


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A new tree with the values of both, those of `above` first."""
    merged = {key: _merged(value, {}) if isinstance(value, dict) else value for key, value in below.items()}
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = _merged(known if isinstance(known, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _validate(model: type[M], values: Mapping[str, Any], section: str) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(option.split(".")[0], model.model_fields)
            raise UserError(f"--set {section}.{option}: unknown option '{option}'; {hint}") from None
        raise UserError(f"--set {section}.{option}: {first['msg']}, got {first.get('input')!r}") from None
