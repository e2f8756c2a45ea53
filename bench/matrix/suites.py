"""Expansion of suites to cells, on their own data sets or on a replacement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench import recipe as recipes
from bench.api.plugin import Plugin
from bench.config import PluginSpec, Settings, TrainSpec
from bench.errors import UserError, did_you_mean
from bench.matrix.expand import NO_ATTACK, Cell, Expander, Matrix, attack_spec, defense_spec, select_plugins
from bench.matrix.request_schema import RequestedSuite, RequestRecord
from bench.matrix.suite_checks import check, missing_plugins
from bench.recipe import Recipe
from bench.registry import Registry, attacks, datasets, defenses, evaluators
from bench.suites.parts import AttackVariant, DefenseVariant, Substitutes
from bench.suites.suite import NO_PLUGIN, Condition, Suite

NOT_REQUESTED = "not asked for: the run was on {} alone"


@dataclass(frozen=True)
class SuiteRequest:
    """The options that suites are expanded with.

    Without `data` they run on their paper's data sets; `recipe` replaces the recipe of each.
    """

    suites: Sequence[Suite]
    data: str | None = None
    evaluators: Sequence[str] = ("asr", "zero_shot", "linear_probe")
    seeds: Sequence[int] = (0,)
    data_root: Path | None = None
    downstream_root: Path | None = None
    model: str | None = None
    precision: str | None = None
    options: Sequence[str] = ()
    recipe: str | Recipe | None = None
    controls: bool = False

    def replacement(self, suite: Suite) -> str | None:
        """The data set that replaces all of the suite's; None without one, or if it is one of them."""
        return self.data if self.data and self.data not in suite.data else None


@dataclass
class SuiteExpansion:
    """The expansion of a suite: its cells, the runs of each condition, and the reason where a condition has none."""

    suite: Suite
    replacement: str | None
    cells: dict[str, Cell] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def lacks_data(self) -> bool:
        """Whether no condition has runs, and not just for missing plugins."""
        return not self.runs and not all(reason.startswith(NO_PLUGIN) for reason in self.reasons.values())


@dataclass(frozen=True)
class SuitePlan:
    """The matrices to run, shared by the suites, and the request of each suite, which its report is made from."""

    matrices: tuple[Matrix, ...]
    requests: tuple[RequestRecord, ...]
    suites: tuple[SuiteExpansion, ...]


def expand_suites(request: SuiteRequest) -> SuitePlan:
    """Resolve suites to cells.

    Raises UserError for a method that is neither registered nor declared unsupported, and if no data set is available.
    """
    if request.data:
        _require_known(datasets, request.data)
    expanders = _Expanders(request)
    planned = []
    for suite in request.suites:
        check(suite)
        plan = SuiteExpansion(suite, request.replacement(suite))
        for condition in suite.conditions():
            _expand(expanders, plan, condition)
        planned.append(plan)
    _check_data(planned)
    requests = tuple(_as_request(request, plan) for plan in planned)
    return SuitePlan(tuple(expander.matrix() for expander in expanders.by_settings.values()), requests, tuple(planned))


class _Expanders:
    """An expander for each combination of data set, model and training options in a request."""

    def __init__(self, request: SuiteRequest) -> None:
        self.request = request
        self._recipe = recipes.load(request.recipe) if request.recipe else None
        self.by_settings: dict[tuple[str, ...], Expander] = {}
        self._evaluators = select_plugins(evaluators, request.evaluators)
        self._several = request.data is None and len({name for suite in request.suites for name in suite.data}) > 1

    def settings(self, data: str, options: Sequence[str], model: str | None) -> Settings:
        return Settings(data, [*options, *self.request.options], model or self.request.model, self._recipe)

    def get(self, data: str, options: tuple[str, ...], model: str | None) -> Expander:
        settings = self.settings(data, options, model)
        parts = settings.data(datasets[data].plugin), settings.train(self.request.precision)
        key = data, settings.model.model_dump_json(), *(part.model_dump_json() for part in parts)
        if key not in self.by_settings:
            for section, registry in (("attack", attacks), ("defense", defenses), ("evaluator", evaluators)):
                settings.check_options(section, list(registry), registry)
            self.by_settings[key] = Expander(
                settings, data, self._root(data), self._evaluators, self.request.precision, self.request.downstream_root
            )
        return self.by_settings[key]

    def _root(self, data: str) -> Path | None:
        """--data-root, or its subfolder of that name if several data sets are run."""
        root = self.request.data_root
        return root / data if root and self._several and (root / data).exists() else root


def _expand(expanders: _Expanders, plan: SuiteExpansion, condition: Condition) -> None:
    request, suite = expanders.request, plan.suite
    substitutes = suite.substitutes.get(plan.replacement or "", Substitutes())
    reason = _reason_not_run(request, plan, substitutes, condition)
    if reason:
        plan.reasons[condition.id] = reason
        return
    options = (
        *substitutes.data.get(condition.data, ()),
        *substitutes.attacks.get(condition.attack, ()),
        *substitutes.trainings.get(condition.model, ()),
    )
    model = substitutes.models.get(condition.model, condition.model) or None
    data = plan.replacement or condition.data
    try:
        expander, settings = expanders.get(data, options, model), expanders.settings(data, options, model)
    except UserError as error:
        given = [f"--set {option.partition('=')[0].strip()}:" for option in options] + [f"--model {model}:"]
        where = f"--suite {suite.cli_name}: {condition.id}: " if str(error).startswith(tuple(given)) else ""
        raise UserError(f"{where}{error}") from None
    defense_variant = suite.defenses.get(condition.defense, DefenseVariant(plugin=condition.defense))
    try:
        attack = _attack(settings, suite.attacks.get(condition.attack, AttackVariant(plugin=condition.attack)))
        defense = _defense(settings, suite, defense_variant)
        train = _train(expander.train, suite, defense_variant)
        cells = [expander.add(attack, defense, seed, train) for seed in request.seeds]
    except UserError as error:
        plan.reasons[condition.id] = str(error)
        return
    plan.runs[condition.id] = [cell.key for cell in cells]
    if request.controls:
        cells += [control for cell in cells for control in expander.add_controls(cell)]
    plan.cells |= {each.key: each for cell in cells for each in expander.with_dependencies(cell)}


def _reason_not_run(request: SuiteRequest, plan: SuiteExpansion, substitutes: Substitutes, condition: Condition) -> str | None:
    """Why a condition cannot be run, judged by names alone; None if it can."""
    suite = plan.suite
    if missing := missing_plugins(suite, condition):
        return NO_PLUGIN + " or ".join(missing)
    if request.data and not plan.replacement and condition.data != request.data:
        return NOT_REQUESTED.format(request.data)
    if plan.replacement and suite.by_size and condition.data not in substitutes.data:
        return f"{plan.replacement} has no size that stands for {condition.data}"
    if not plan.replacement and condition.data not in datasets.names():
        return f"the data set {condition.data} is not available here"
    return None


def _attack(settings: Settings, variant: AttackVariant) -> PluginSpec | None:
    if variant.plugin == NO_ATTACK:
        return None
    entry = attacks[variant.plugin]
    spec = attack_spec(settings, entry)
    return _varied(spec, entry.plugin, {} if variant.rate is None else {"rate": variant.rate}, variant.set)


def _defense(settings: Settings, suite: Suite, variant: DefenseVariant) -> PluginSpec:
    entry = defenses[variant.plugin]
    shares = {name: epochs / suite.epochs for name, epochs in variant.shares.items()}
    return _varied(defense_spec(settings, entry), entry.plugin, variant.scaled, {**variant.set, **shares})


def _varied(spec: PluginSpec, plugin: type[Plugin], scaled: Mapping[str, float], absolute: Mapping[str, Any]) -> PluginSpec:
    """The specification with other parameters; `scaled` ones keep their ratio to the plugin's defaults.

    Raises UserError for an invalid value, such as a rate that is scaled above 1.
    """
    defaults = {name: plugin.Params.model_fields[name].default for name in scaled}
    factors = {name: rescaled(value, spec.params[name], defaults[name]) for name, value in scaled.items()}
    try:
        params = plugin.Params.model_validate({**spec.params, **factors, **absolute})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))} of {spec.name}: {first['msg']}, got {first.get('input')!r}"
        ) from None
    return spec.model_copy(update={"params": params.model_dump(mode="json")})


def _train(train: TrainSpec, suite: Suite, variant: DefenseVariant) -> TrainSpec:
    if variant.epochs is None:
        return train
    return train.model_copy(update={"epochs": round(rescaled(variant.epochs, train.epochs, suite.epochs))})


def rescaled(published: float, of_recipe: float, published_base: float) -> float:
    """published * of_recipe / published_base; exactly `of_recipe` for the base itself."""
    return of_recipe if published == published_base else float(f"{published * of_recipe / published_base:.12g}")


def _require_known(registry: Registry[Any], name: str) -> None:
    if name not in registry.names():
        raise UserError(f"--data {name}: unknown data set; {did_you_mean(name, registry.names())}")


def _check_data(planned: Sequence[SuiteExpansion]) -> None:
    lacking = [plan for plan in planned if plan.lacks_data]
    if not lacking or any(plan.runs for plan in planned):
        return
    names = ", ".join(plan.suite.cli_name for plan in lacking)
    reasons = "; ".join(dict.fromkeys(reason for plan in lacking for reason in plan.reasons.values()))
    hint = "" if all(plan.replacement for plan in lacking) else "; --data scenes runs it on the embedded data set"
    raise UserError(f"--suite {names}: nothing can be run ({reasons}){hint}")


def _as_request(request: SuiteRequest, plan: SuiteExpansion) -> RequestRecord:
    recipe = recipes.load(request.recipe).name if request.recipe else None
    suite = plan.suite
    optional: dict[str, Any] = {"recipe": recipe} if recipe else {}
    if weights := sorted({cell.spec.model.weights for cell in plan.cells.values() if cell.spec.model.weights}):
        optional["weights"] = weights
    if not suite.builtin:
        optional |= {"content": suite.content, "digest": suite.digest}
    return RequestRecord(
        cells=[cell.as_request(recipe) for cell in plan.cells.values()],
        suite=RequestedSuite(
            name=suite.name,
            instead=plan.replacement,
            model=request.model,
            precision=request.precision,
            options=list(request.options),
            runs=plan.runs,
            reasons=plan.reasons,
            **optional,
        ),
    )
