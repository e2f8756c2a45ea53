"""From suites to cells: a suite's arms on its own data sets, or on one in place of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import recipe as recipes
from bench.api.plugin import Plugin
from bench.config import PluginSpec, Settings, TrainSpec
from bench.errors import UserError, did_you_mean
from bench.matrix.expand import NO_ATTACK, Cell, Expander, Matrix, attack_spec, choose, defense_spec
from bench.matrix.schema import AskedSuite, RequestRecord
from bench.registry import Registry, attacks, datasets, defenses, evaluators
from bench.suites.suite import PUBLISHED_EPOCHS, Arm, AttackVariant, DefenseVariant, Instead, Suite

NOT_ASKED = "not asked for: the run was on {} alone"


@dataclass(frozen=True)
class SuiteRequest:
    """What the user asked for. Without `data` the suites run on the paper's data sets; `recipe` replaces that of each."""

    suites: Sequence[Suite]
    data: str | None = None
    evaluators: Sequence[str] = ("asr", "zero_shot", "linear_probe")
    seeds: Sequence[int] = (0,)
    data_root: Path | None = None
    downstream_root: Path | None = None
    model: str | None = None
    precision: str | None = None
    options: Sequence[str] = ()
    recipe: str | None = None
    controls: bool = False

    def instead(self, suite: Suite) -> str | None:
        """The data set that replaces all of the suite's; None where it is one of them."""
        return self.data if self.data and self.data not in suite.data else None


@dataclass
class Planned:
    """What becomes of a suite: its cells, the runs of each arm, and why an arm has none."""

    suite: Suite
    instead: str | None
    cells: dict[str, Cell] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SuitePlan:
    """The matrices to run, which suites share, and for each suite the request that its report is made from."""

    matrices: tuple[Matrix, ...]
    requests: tuple[RequestRecord, ...]
    suites: tuple[Planned, ...]


def expand_suites(request: SuiteRequest) -> SuitePlan:
    """Resolve suites to cells. Raises UserError where nothing of them can be run for want of data."""
    if request.data:
        _known(datasets, request.data)
    world = _World(request)
    planned = []
    for suite in request.suites:
        plan = Planned(suite, request.instead(suite))
        for arm in suite.arms():
            _expand_arm(world, plan, arm)
        planned.append(plan)
    _check_data(request, planned)
    requests = tuple(_as_request(request, plan) for plan in planned)
    return SuitePlan(tuple(expander.matrix() for expander in world.expanders.values()), requests, tuple(planned))


class _World:
    """Data sets and models of a request, each opened once."""

    def __init__(self, request: SuiteRequest) -> None:
        self.request = request
        self._recipe = recipes.load(request.recipe) if request.recipe else None
        self.expanders: dict[tuple[str, ...], Expander] = {}
        self._evaluators = choose(evaluators, request.evaluators)
        self._several = request.data is None and len({name for suite in request.suites for name in suite.data}) > 1

    def settings(self, data: str, options: Sequence[str], model: str | None) -> Settings:
        return Settings(data, [*options, *self.request.options], model or self.request.model, self._recipe)

    def expander(self, data: str, options: tuple[str, ...], model: str | None) -> Expander:
        settings = self.settings(data, options, model)
        parts = settings.data(datasets[data].plugin), settings.train(self.request.precision)
        key = data, settings.model.name, *(part.model_dump_json() for part in parts)
        if key not in self.expanders:
            for section, registry in (("attack", attacks), ("defense", defenses), ("evaluator", evaluators)):
                settings.check_options(section, list(registry), registry)
            self.expanders[key] = Expander(
                settings, data, self._root(data), self._evaluators, self.request.precision, self.request.downstream_root
            )
        return self.expanders[key]

    def _root(self, data: str) -> Path | None:
        """The folder given, or that data set's own folder in it where several data sets are run."""
        root = self.request.data_root
        return root / data if root and self._several and (root / data).exists() else root


def _expand_arm(world: _World, plan: Planned, arm: Arm) -> None:
    request, suite = world.request, plan.suite
    instead = suite.instead.get(plan.instead or "", Instead())
    reason = _impossible(request, plan, instead, arm)
    if reason:
        plan.reasons[arm.id] = reason
        return
    options = (
        *instead.data.get(arm.data, ()),
        *instead.attacks.get(arm.attack, ()),
        *instead.trainings.get(arm.model, ()),
    )
    model = instead.models.get(arm.model, arm.model) or None
    data = plan.instead or arm.data
    expander, settings = world.expander(data, options, model), world.settings(data, options, model)
    defense_variant = suite.defenses.get(arm.defense, DefenseVariant(plugin=arm.defense))
    try:
        attack = _attack(settings, suite.attacks.get(arm.attack, AttackVariant(plugin=arm.attack)))
        defense = _defense(settings, defense_variant)
        cells = [expander.add(attack, defense, seed, _train(expander.train, defense_variant)) for seed in request.seeds]
    except UserError as error:
        plan.reasons[arm.id] = str(error)
        return
    plan.runs[arm.id] = [cell.key for cell in cells]
    if request.controls:
        cells += [control for cell in cells for control in expander.add_controls(cell)]
    plan.cells |= {each.key: each for cell in cells for each in expander.with_needed(cell)}


def _impossible(request: SuiteRequest, plan: Planned, instead: Instead, arm: Arm) -> str | None:
    """Why an arm has no runs, as far as names tell."""
    suite = plan.suite
    if request.data and not plan.instead and arm.data != request.data:
        return NOT_ASKED.format(request.data)
    if plan.instead and suite.by_size and arm.data not in instead.data:
        return f"{plan.instead} has no size that stands for {arm.data}"
    if not plan.instead and arm.data not in datasets.names():
        return f"the data set {arm.data} is not available here"
    attack, defense = _plugin(suite.attacks, arm.attack), _plugin(suite.defenses, arm.defense)
    if attack != NO_ATTACK and attack not in attacks.names():
        return f"the attack {attack} is not available here"
    return None if defense in defenses.names() else f"the defense {defense} is not available here"


def _plugin(variants: Mapping[str, AttackVariant] | Mapping[str, DefenseVariant], name: str) -> str:
    return variants[name].plugin if name in variants else name


def _attack(settings: Settings, variant: AttackVariant) -> PluginSpec | None:
    if variant.plugin == NO_ATTACK:
        return None
    entry = attacks[variant.plugin]
    spec = attack_spec(settings, entry)
    return _varied(spec, entry.plugin, {} if variant.rate is None else {"rate": variant.rate}, {})


def _defense(settings: Settings, variant: DefenseVariant) -> PluginSpec:
    entry = defenses[variant.plugin]
    shares = {name: epochs / PUBLISHED_EPOCHS for name, epochs in variant.shares.items()}
    return _varied(defense_spec(settings, entry), entry.plugin, variant.scaled, {**variant.set, **shares})


def _varied(spec: PluginSpec, plugin: type[Plugin], scaled: Mapping[str, float], absolute: Mapping[str, Any]) -> PluginSpec:
    """The specification with other parameters; the scaled ones keep their factor to the plugin's defaults."""
    defaults = {name: plugin.Params.model_fields[name].default for name in scaled}
    factors = {name: rescaled(value, spec.params[name], defaults[name]) for name, value in scaled.items()}
    params = plugin.Params.model_validate({**spec.params, **factors, **absolute})
    return spec.model_copy(update={"params": params.model_dump(mode="json")})


def _train(train: TrainSpec, variant: DefenseVariant) -> TrainSpec:
    if variant.epochs is None:
        return train
    return train.model_copy(update={"epochs": round(rescaled(variant.epochs, train.epochs, PUBLISHED_EPOCHS))})


def rescaled(published: float, of_recipe: float, published_base: float) -> float:
    """The published value times what the recipe has over the published base; the base itself gives the recipe's exactly."""
    return of_recipe if published == published_base else float(f"{published * of_recipe / published_base:.12g}")


def _known(registry: Registry, name: str) -> None:
    if name not in registry.names():
        raise UserError(f"--data {name}: unknown data set; {did_you_mean(name, registry.names())}")


def _check_data(request: SuiteRequest, planned: Sequence[Planned]) -> None:
    wanting = [plan for plan in planned if plan.suite.arms() and not plan.runs]
    if not wanting or any(plan.runs for plan in planned):
        return
    names = ", ".join(plan.suite.name for plan in wanting)
    reasons = "; ".join(dict.fromkeys(reason for plan in wanting for reason in plan.reasons.values()))
    raise UserError(f"--suite {names}: nothing can be run ({reasons}); --data scenes runs it on the embedded data set")


def _as_request(request: SuiteRequest, plan: Planned) -> RequestRecord:
    return RequestRecord(
        cells=[cell.as_request(request.recipe) for cell in plan.cells.values()],
        suite=AskedSuite(
            name=plan.suite.name,
            instead=plan.instead,
            model=request.model,
            precision=request.precision,
            options=list(request.options),
            runs=plan.runs,
            reasons=plan.reasons,
            **({"recipe": request.recipe} if request.recipe else {}),
        ),
    )
