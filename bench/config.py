"""Specifications of runs, frozen, and the settings that recipes and --set options resolve to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import recipe as recipes
from bench import sources
from bench.api.plugin import Params, Plugin
from bench.errors import UserError, did_you_mean
from bench.models import factory, pretrained
from bench.recipe import SECTIONS, Recipe, has_option, is_finite, merge
from bench.registry import Entry, Registry
from bench.text import toml_or_text

Precision = Literal["fp32", "bf16", "fp16"]


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelOptions(Spec):
    name: str = Field(description="an open_clip architecture or a configuration of this project")
    pretrained: str | None = Field(default=None, description="weights to start from: a tag of open_clip or a file")


class ModelSpec(Spec):
    """A model.

    `config` is the digest of its open_clip configuration and of how its texts are cut, `weights` that of the file that every
    cell starts from; None is from scratch.
    """

    name: str
    config: str
    weights: str | None = None


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
    precision: Precision = "fp32"


class PluginSpec(Spec):
    """A plugin with its parameters.

    `builds_on` is the defense whose trained model it starts from, filters with or is optimised against, `beside` the defense
    that it is a control of.
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
    """The identity of a cell: everything that determines its trained weights, on one machine."""

    engine: str = Field(default_factory=sources.engine)
    data: DataSpec
    attack: PluginSpec | None
    defense: PluginSpec
    model: ModelSpec
    train: TrainSpec
    seed: int


M = TypeVar("M", bound=BaseModel)


class Settings:
    """A recipe, by default the data set's, overridden by the user's --set options; gives validated specifications."""

    def __init__(self, data: str, options: Sequence[str] = (), model: str | None = None, recipe: Recipe | None = None) -> None:
        self.args = data, tuple(options), model, recipe
        self._source = recipe or recipes.for_data(data)
        self._recipe = self._source.tree
        self._user: dict[str, Any] = {"model": {"name": model}} if model else {}
        self._tree = merge(self._recipe, self._user)
        self._set_by_user: set[tuple[str, ...]] = set()
        for option in options:
            self._apply(option)

    def _apply(self, option: str) -> None:
        path, equals, text = option.partition("=")
        keys = path.strip().split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise UserError(f"--set {option}: expected section.option=value, for example train.epochs=2")
        if keys[0] not in SECTIONS:
            raise UserError(f"--set {path}: unknown section '{keys[0]}'; {did_you_mean(keys[0], SECTIONS)}")
        value = toml_or_text(text)
        if not is_finite(value):
            raise UserError(f"--set {path}: expected a finite number, got {value!r}")
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
        options = self._validated(ModelOptions, self._tree.get("model", {}), "model")
        name = options.name
        if not has_option(self._user, "model", "name") and name not in factory.model_names():
            hint = did_you_mean(name, factory.model_names())
            raise UserError(f"{self._named('model', 'name')}: unknown model '{name}'; {hint}")
        return ModelSpec(name=name, config=factory.identity(name), weights=self._weights(name, options.pretrained))

    def _weights(self, model: str, name: str | None) -> str | None:
        try:
            return pretrained.digest_of(model, name) if name else None
        except UserError as error:
            raise UserError(f"{self._named('model', 'pretrained')}: {error}") from None

    def train(self, precision: str | None = None, defaults: Mapping[str, float] | None = None) -> TrainSpec:
        """The training section; `defaults` apply where neither recipe nor user sets an option."""
        tree = {**(defaults or {}), **self._tree.get("train", {})}
        if precision:
            tree["precision"] = precision
        return self._validated(TrainSpec, tree, "train")

    def data(self, plugin: type[Plugin]) -> Params:
        return self._validated(plugin.Params, self._tree.get("data", {}), "data")

    def plugin(self, section: str, entry: Entry[Any], registry: Registry[Any]) -> PluginSpec:
        """A plugin with its parameters: the defaults, overridden by the recipe, overridden by the user.

        Within a recipe, options of the section are overridden by those under the plugin's name.
        """
        params = self._params(section, entry, registry, (self._recipe, self._user))
        return PluginSpec(**entry.identity(), params=params.model_dump(mode="json"))

    def _params(self, section: str, entry: Entry[Any], registry: Registry[Any], trees: Iterable[Mapping[str, Any]]) -> Params:
        fields, name = entry.plugin.Params.model_fields, entry.plugin.name
        values: dict[str, Any] = {}
        for tree in trees:
            options = tree.get(section, {})
            own = options.get(name, {})
            if not isinstance(own, dict):
                where = self._named(section, name)
                raise UserError(f"{where}: append one of its options: {', '.join(fields)}")
            shared = {key: value for key, value in options.items() if key in fields and key not in registry.names()}
            values = merge(merge(values, shared), own)
        params: type[Params] = entry.plugin.Params
        return self._validated(params, values, f"{section}.{name}")

    def check_options(self, section: str, chosen: Iterable[Entry[Any]], registry: Registry[Any]) -> None:
        """Raise UserError for an unknown or invalid option.

        --set options must belong to a chosen plugin or name another, the recipe's to any registered one.
        """
        every = {field for entry in registry for field in entry.plugin.Params.model_fields}
        for name in self._recipe.get(section, {}):
            if name in registry.names():
                self._params(section, registry[name], registry, (self._recipe,))
            elif name not in every:
                raise UserError(f"{self._named(section, name)}: {_unknown(name, {*every, *registry.names()})}")
        known = {field for entry in chosen for field in entry.plugin.Params.model_fields}
        for path in self._set_by_user:
            if path[0] != section:
                continue
            if path[1] in registry.names():
                self.plugin(section, registry[path[1]], registry)
            elif path[1] not in known:
                raise UserError(f"--set {'.'.join(path)}: {_unknown(path[1], {*known, *registry.names()})}")

    def _validated(self, model: type[M], values: Mapping[str, Any], section: str) -> M:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            name = option.split(".")[0]
            where = self._named(section, name).removesuffix(name) + option
            if first["type"] == "extra_forbidden":
                raise UserError(f"{where}: {_unknown(option, model.model_fields, near=name)}") from None
            if first["type"] == "missing":
                raise UserError(f'{where} is missing; set it there, with --set, or by {recipes.BASE} = "small"') from None
            raise UserError(f"{where}: {first['msg']}, got {first.get('input')!r}") from None

    def _named(self, section: str, option: str) -> str:
        """An option with its origin, --set or a recipe file, for error messages."""
        by_user = has_option(self._user, section, option)
        origin = "--set" if by_user else f"--recipe {self._source.file_of(section, option)}:"
        return f"{origin} {section}.{option}"


def _unknown(option: str, known: Iterable[str], near: str | None = None) -> str:
    return f"unknown option '{option}'; {did_you_mean(near or option, known)}"
