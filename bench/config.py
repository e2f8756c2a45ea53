"""What determines a run's numbers, as frozen values; recipes and --set options resolve to them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import recipe as recipes
from bench import sources
from bench.api.plugin import Params, Plugin
from bench.canonical import digest
from bench.errors import UserError, did_you_mean
from bench.models import factory, pretrained
from bench.recipe import SECTIONS, Recipe, holds, is_finite, merged
from bench.registry import Entry, Registry

Precision = Literal["fp32", "bf16", "fp16"]


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelOptions(Spec):
    name: str = Field(description="an open_clip architecture or a configuration of this project")
    pretrained: str | None = Field(default=None, description="weights to start from: a tag of open_clip or a file")


class ModelSpec(Spec):
    """`config` is the digest of open_clip's configuration of that name, `weights` that of the file of weights that every cell
    starts from; None is from scratch.
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


class Settings:
    """A recipe, by default the data set's, with the user's --set options on top; hands out validated values."""

    def __init__(self, data: str, options: Sequence[str] = (), model: str | None = None, recipe: Recipe | None = None) -> None:
        self.asked = data, tuple(options), model, recipe
        self._source = recipe or recipes.of_data(data)
        self._recipe = self._source.tree
        self._user: dict[str, Any] = {"model": {"name": model}} if model else {}
        self._tree = merged(self._recipe, self._user)
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
        if not is_finite(value):
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
        options = self._validated(ModelOptions, self._tree.get("model", {}), "model")
        name = options.name
        if not holds(self._user, "model", "name") and name not in factory.model_names():
            hint = did_you_mean(name, factory.model_names())
            raise UserError(f"{self._named('model', 'name')}: unknown model '{name}'; {hint}")
        config = digest(factory.config(name))
        return ModelSpec(name=name, config=config, weights=self._weights(name, options.pretrained))

    def _weights(self, model: str, asked: str | None) -> str | None:
        try:
            return pretrained.given(model, asked) if asked else None
        except UserError as error:
            raise UserError(f"{self._named('model', 'pretrained')}: {error}") from None

    def train(self, precision: str | None = None, defaults: Mapping[str, float] | None = None) -> TrainSpec:
        """The training section; `defaults` stand where neither recipe nor user gives a value."""
        tree = {**(defaults or {}), **self._tree.get("train", {})}
        if precision:
            tree["precision"] = precision
        return self._validated(TrainSpec, tree, "train")

    def data(self, plugin: type[Plugin]) -> Params:
        return self._validated(plugin.Params, self._tree.get("data", {}), "data")

    def plugin(self, section: str, entry: Entry, registry: Registry) -> PluginSpec:
        """The plugin's parameters: its defaults, then the recipe's, then the user's; in both, those of the section come
        before those under the plugin's own name.
        """
        params = self._params(section, entry, registry, (self._recipe, self._user))
        return PluginSpec(**entry.identity(), params=params.model_dump(mode="json"))

    def _params(self, section: str, entry: Entry, registry: Registry, trees: Iterable[Mapping[str, Any]]) -> Params:
        fields, name = entry.plugin.Params.model_fields, entry.plugin.name
        values: dict[str, Any] = {}
        for tree in trees:
            options = tree.get(section, {})
            own = options.get(name, {})
            if not isinstance(own, dict):
                where = self._named(section, name)
                raise UserError(f"{where}: name one of its options too: {', '.join(fields)}")
            shared = {key: value for key, value in options.items() if key in fields and key not in registry.names()}
            values = merged(merged(values, shared), own)
        return self._validated(entry.plugin.Params, values, f"{section}.{name}")

    def check_options(self, section: str, chosen: Iterable[Entry], registry: Registry) -> None:
        """Refuse --set options of a section that no chosen plugin has, those of the recipe that none has at all, and bad ones
        under the name of another plugin.
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
                raise UserError(f'{where} is missing; give it there, with --set, or by {recipes.BASE} = "small"') from None
            raise UserError(f"{where}: {first['msg']}, got {first.get('input')!r}") from None

    def _named(self, section: str, option: str) -> str:
        """An option with what gave it: --set, or a file of the recipe."""
        given = holds(self._user, section, option)
        return f"--set {section}.{option}" if given else f"--recipe {self._source.giver(section, option)}: {section}.{option}"


def _unknown(option: str, known: Iterable[str], near: str | None = None) -> str:
    return f"unknown option '{option}'; {did_you_mean(near or option, known)}"


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()
