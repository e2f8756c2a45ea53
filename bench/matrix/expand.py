"""From a request to the cells of a matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import keys
from bench import recipe as recipes
from bench.api import Attack, Budget, Defense, Evaluator, Guide
from bench.config import PluginSpec, RunSpec, Settings, TrainSpec
from bench.data import thesaurus
from bench.matrix.schema import AskedCell, AskedEvaluation, RequestRecord, Spec
from bench.matrix.workspace import Workspace
from bench.recipe import Recipe
from bench.registry import Entry, P, Registry, attacks, defenses, evaluators
from bench.training.optimizer import published

NO_ATTACK = "none"
UNDEFENDED = "clip"
"""The defense whose model others filter with, and whose unpoisoned model gives the ASR floor."""
_GUIDES = ("undefended", "clean")
"""Guides that are cells."""


@dataclass(frozen=True)
class Request:
    """What the user asked for. Empty `evaluators` means all; text as `recipe` names one or its file, None is the data set's."""

    data: str
    attacks: Sequence[str]
    defenses: Sequence[str]
    evaluators: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    data_root: Path | None = None
    downstream_root: Path | None = None
    model: str | None = None
    precision: str | None = None
    options: Sequence[str] = ()
    recipe: str | Recipe | None = None
    controls: bool = False


@dataclass(frozen=True)
class Evaluation:
    """One evaluator on one cell; `clean` is the unpoisoned cell it needs, `unsupported` why it cannot be done."""

    evaluator: PluginSpec
    key: str
    clean: RunSpec | None
    unsupported: str | None


@dataclass(frozen=True)
class Cell:
    """A run and what is measured on it.

    `start` is the cell whose weights it starts from, `guide` the one whose model its pairs are selected with, `surrogate` the
    unpoisoned cell that its attack is crafted against, `beside` the one that it is a control of.
    """

    spec: RunSpec
    key: str
    evaluations: tuple[Evaluation, ...]
    start: RunSpec | None = None
    guide: RunSpec | None = None
    surrogate: RunSpec | None = None
    beside: RunSpec | None = None
    unsupported: str | None = None

    @property
    def builds_on(self) -> list[RunSpec]:
        """The cells that its training needs."""
        return [spec for spec in (self.surrogate, self.start, self.guide, self.beside) if spec is not None]

    @property
    def measured_against(self) -> list[RunSpec]:
        """The cells that its evaluations need."""
        return [evaluation.clean for evaluation in self.evaluations if evaluation.clean is not None]

    @property
    def needs(self) -> list[RunSpec]:
        return [*self.builds_on, *self.measured_against]

    @property
    def title(self) -> str:
        attack = self.spec.attack.name if self.spec.attack else "no attack"
        beside = f" beside {self.spec.defense.beside.name}" if self.spec.defense.beside else ""
        return f"{self.spec.defense.name}{beside} · {attack} · {self.spec.data.name} · seed {self.spec.seed}"

    def as_request(self, recipe: str | None) -> AskedCell:
        """`recipe` is the one that was asked for."""
        attack = self.spec.attack
        return AskedCell(
            run_key=self.key,
            data=self.spec.data.name,
            model=self.spec.model.name,
            attack=attack.name if attack else NO_ATTACK,
            attack_rate=attack.params["rate"] if attack else None,
            defense=self.spec.defense.name,
            seed=self.spec.seed,
            spec=Spec.of(self.spec.model_dump(mode="json")),
            unsupported=self.unsupported,
            evaluators=[
                AskedEvaluation(name=each.evaluator.name, eval_key=each.key, unsupported=each.unsupported)
                for each in self.evaluations
            ],
            **({"recipe": recipe} if recipe else {}),
        )


@dataclass(frozen=True)
class Matrix:
    """Cells in the order to run them: a cell comes after those that it starts from or is measured against."""

    cells: tuple[Cell, ...]
    workspace: Workspace = field(repr=False)

    def as_request(self) -> RequestRecord:
        recipe = self.workspace.source.recipe
        return RequestRecord(cells=[cell.as_request(recipe.name if recipe else None) for cell in self.cells])

    def only(self, wanted: Iterable[Cell]) -> Matrix:
        """The matrix of some of its cells and all that these need."""
        known = {cell.key: cell for cell in self.cells}
        kept = {each.key for cell in wanted for each in with_needed(cell, known)}
        return replace(self, cells=tuple(cell for cell in self.cells if cell.key in kept))


def with_needed(cell: Cell, known: Mapping[str, Cell]) -> list[Cell]:
    """The cell after all that it needs; `known` are cells by their keys."""
    found: dict[str, Cell] = {}
    for needed in cell.needs:
        found |= {each.key: each for each in with_needed(known[keys.run_key(needed)], known)}
    return list((found | {cell.key: cell}).values())


def expand(request: Request) -> Matrix:
    """Resolve a request to cells. Raises UserError for anything in it that cannot be."""
    recipe = recipes.load(request.recipe) if request.recipe else None
    settings = Settings(request.data, request.options, request.model, recipe)
    chosen_attacks = choose(attacks, [name for name in request.attacks if name != NO_ATTACK])
    chosen_defenses = choose(defenses, request.defenses)
    chosen_evaluators = choose(evaluators, request.evaluators or ["all"])
    settings.check_options("attack", chosen_attacks, attacks)
    settings.check_options("defense", chosen_defenses, defenses)
    settings.check_options("evaluator", chosen_evaluators, evaluators)
    attack_specs: list[PluginSpec | None] = [attack_spec(settings, entry) for entry in chosen_attacks]
    if NO_ATTACK in request.attacks:
        attack_specs.insert(0, None)
    defense_specs = [defense_spec(settings, entry) for entry in chosen_defenses]
    expander = Expander(
        settings, request.data, request.data_root, chosen_evaluators, request.precision, request.downstream_root
    )
    for seed, attack, defense in itertools.product(request.seeds, attack_specs, defense_specs):
        cell = expander.add(attack, defense, seed)
        if request.controls:
            expander.add_controls(cell)
    return expander.matrix()


class Expander:
    """Collects the cells of one data set and model, each once, after those that it needs."""

    def __init__(
        self,
        settings: Settings,
        data: str,
        root: Path | None,
        chosen_evaluators: Sequence[Entry[Evaluator]],
        precision: str | None,
        downstream_root: Path | None,
    ) -> None:
        self._settings = settings
        self._evaluators = [settings.plugin("evaluator", entry, evaluators) for entry in chosen_evaluators]
        self._cells: dict[str, Cell] = {}
        self.model = settings.model
        self.workspace = Workspace(settings, data, root, downstream_root)
        self.train = settings.train(precision, published(self.model.name))
        if self.train.thesaurus == "auto":
            self.train = self.train.model_copy(update={"thesaurus": thesaurus.best(self.workspace.bundle.synonyms)})

    def add(self, attack: PluginSpec | None, defense: PluginSpec, seed: int, train: TrainSpec | None = None) -> Cell:
        """The cell, with the recipe's training unless another is given. Raises UserError where it cannot be poisoned."""
        return self._add(
            RunSpec(
                data=self.workspace.data,
                attack=attack,
                defense=defense,
                model=self.model,
                train=train or self.train,
                seed=seed,
            )
        )

    def add_controls(self, cell: Cell) -> list[Cell]:
        """The controls of a cell; a plain CLIP has none, nor has a cell that starts from trained weights."""
        spec = cell.spec
        if spec.defense.name == UNDEFENDED or spec.defense.beside or cell.start is not None:
            return []
        beside = [PluginSpec(**entry.identity(), params={}, beside=spec.defense) for entry in controls()]
        return [self._add(spec.model_copy(update={"defense": control})) for control in beside]

    def _add(self, spec: RunSpec) -> Cell:
        cell = _cell(spec, self._evaluators, self._settings, self.workspace)
        for needed in cell.needs:
            if keys.run_key(needed) not in self._cells:
                self._add(needed)
        return self._cells.setdefault(cell.key, cell)

    def with_needed(self, cell: Cell) -> list[Cell]:
        return with_needed(cell, self._cells)

    def matrix(self) -> Matrix:
        return Matrix(tuple(self._cells.values()), self.workspace)


def choose(registry: Registry[P], names: Sequence[str]) -> list[Entry[P]]:
    chosen = [registry[name] for name in dict.fromkeys(names) if name != "all"]
    return [entry for entry in registry if entry not in controls()] if "all" in names else chosen


def controls() -> list[Entry[Defense]]:
    return [entry for entry in defenses if entry.plugin.control(Budget(1, 1)) is not None]


def defense_spec(settings: Settings, entry: Entry[Defense]) -> PluginSpec:
    spec = settings.plugin("defense", entry, defenses)
    below = entry.plugin.starts_from() or (UNDEFENDED if _guide(spec) in _GUIDES else None)
    return spec.model_copy(update={"builds_on": defense_spec(settings, defenses[below])}) if below else spec


def _guide(spec: PluginSpec) -> Guide | None:
    plugin = defenses[spec.name].plugin
    return plugin.selects_with(plugin.Params.model_validate(spec.params))


def attack_spec(settings: Settings, entry: Entry[Attack]) -> PluginSpec:
    spec = settings.plugin("attack", entry, attacks)
    crafted = entry.plugin(entry.plugin.Params.model_validate(spec.params)).needs_surrogate()
    return spec.model_copy(update={"builds_on": defense_spec(settings, defenses[UNDEFENDED])}) if crafted else spec


def _cell(spec: RunSpec, evaluator_specs: list[PluginSpec], settings: Settings, workspace: Workspace) -> Cell:
    undefended = defense_spec(settings, defenses[UNDEFENDED])
    unpoisoned = spec.model_copy(update={"attack": None, "defense": undefended})
    evaluations = []
    for evaluator in evaluator_specs:
        plugin = evaluators[evaluator.name].plugin
        clean = None
        if plugin.needs_clean_model and spec.attack is not None:
            clean = unpoisoned
        reason = plugin.supports(spec) or plugin.lacks(workspace.measured)
        if plugin.needs_attack and spec.attack is None:
            reason = "no attack, so nothing to measure"
        elif plugin.needs_probes and spec.attack and attacks[spec.attack.name].plugin.on_captions:
            reason = "the attack is on captions, so there are no triggered images"
        elif plugin.needs_scores and defenses[spec.defense.name].plugin.scores is Defense.scores:
            reason = "this defense does not score pairs"
        tasks = workspace.downstream.fingerprints if plugin.needs_tasks else {}
        evaluations.append(Evaluation(evaluator, keys.eval_key(spec, evaluator, clean, tasks), clean, reason))
    reasons = [defenses[spec.defense.name].plugin.supports(spec)]
    if spec.attack is not None:
        reasons.append(attacks[spec.attack.name].plugin.supports(spec))
        workspace.poison(spec)
    builds_on = spec.model_copy(update={"defense": spec.defense.builds_on}) if spec.defense.builds_on else None
    beside = spec.model_copy(update={"defense": spec.defense.beside}) if spec.defense.beside else None
    if beside is not None:
        reasons.append(defenses[beside.defense.name].plugin.supports(beside))
    guides = {"undefended": builds_on, "clean": unpoisoned}
    return Cell(
        spec,
        keys.run_key(spec),
        tuple(evaluations),
        start=builds_on if defenses[spec.defense.name].plugin.starts_from() else None,
        guide=guides.get(_guide(spec.defense) or ""),
        surrogate=unpoisoned if spec.attack and spec.attack.builds_on else None,
        beside=beside,
        unsupported=next((reason for reason in reasons if reason), None),
    )
