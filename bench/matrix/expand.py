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
from bench.matrix.request_schema import RequestedCell, RequestedEvaluation, RequestRecord
from bench.matrix.schema import SpecRecord
from bench.matrix.workspace import Workspace
from bench.recipe import Recipe
from bench.registry import Entry, P, Registry, attacks, defenses, evaluators
from bench.training.optimizer import clip_defaults

NO_ATTACK = "none"
UNDEFENDED = "clip"
"""Plain CLIP: the model that filters use by default, and without poison the model of the ASR floor."""
_GUIDES = ("undefended", "clean")
"""Guides that are trained as cells of the matrix."""


@dataclass(frozen=True)
class MatrixRequest:
    """The options that a matrix is built from.

    No `evaluators` means all of them. `recipe` is a name, a file or a Recipe; None is the recipe of the data set.
    """

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
class CellEvaluation:
    """One evaluator on one cell; `clean` is the unpoisoned cell that it needs, `unsupported` why it does not apply."""

    evaluator: PluginSpec
    key: str
    clean: RunSpec | None
    unsupported: str | None


@dataclass(frozen=True)
class Cell:
    """A training run and its evaluations.

    Attributes
    ----------
    start : RunSpec, optional
        The cell whose weights it starts from.
    guide : RunSpec, optional
        The cell whose model its pairs are selected with.
    surrogate : RunSpec, optional
        The unpoisoned cell that its attack is optimised against.
    control_of : RunSpec, optional
        The defended cell that it is a control of.
    unsupported : str, optional
        Why it is not run.
    """

    spec: RunSpec
    key: str
    evaluations: tuple[CellEvaluation, ...]
    start: RunSpec | None = None
    guide: RunSpec | None = None
    surrogate: RunSpec | None = None
    control_of: RunSpec | None = None
    unsupported: str | None = None

    @property
    def training_dependencies(self) -> list[RunSpec]:
        """The cells that its training needs."""
        return [spec for spec in (self.surrogate, self.start, self.guide, self.control_of) if spec is not None]

    @property
    def evaluation_dependencies(self) -> list[RunSpec]:
        """The cells that its evaluations need."""
        return [evaluation.clean for evaluation in self.evaluations if evaluation.clean is not None]

    @property
    def dependencies(self) -> list[RunSpec]:
        return [*self.training_dependencies, *self.evaluation_dependencies]

    @property
    def title(self) -> str:
        attack = self.spec.attack.name if self.spec.attack else "no attack"
        beside = f" for {self.spec.defense.beside.name}" if self.spec.defense.beside else ""
        return f"{self.spec.defense.name}{beside} · {attack} · {self.spec.data.name} · seed {self.spec.seed}"

    def as_request(self, recipe: str | None) -> RequestedCell:
        """The cell as a request records it; `recipe` is the name of the requested recipe."""
        attack = self.spec.attack
        return RequestedCell(
            run_key=self.key,
            data=self.spec.data.name,
            model=self.spec.model.name,
            attack=attack.name if attack else NO_ATTACK,
            attack_rate=attack.params["rate"] if attack else None,
            defense=self.spec.defense.name,
            seed=self.spec.seed,
            spec=SpecRecord.of(self.spec.model_dump(mode="json")),
            unsupported=self.unsupported,
            evaluators=[
                RequestedEvaluation(name=each.evaluator.name, eval_key=each.key, unsupported=each.unsupported)
                for each in self.evaluations
            ],
            **({"recipe": recipe} if recipe else {}),
        )


@dataclass(frozen=True)
class Matrix:
    """Cells in topological order: each comes after its dependencies."""

    cells: tuple[Cell, ...]
    workspace: Workspace = field(repr=False)

    def as_request(self) -> RequestRecord:
        recipe = self.workspace.source.recipe
        return RequestRecord(cells=[cell.as_request(recipe.name if recipe else None) for cell in self.cells])

    def restricted_to(self, wanted: Iterable[Cell]) -> Matrix:
        """The matrix of some of the cells and their dependencies."""
        known = {cell.key: cell for cell in self.cells}
        kept = {each.key for cell in wanted for each in with_dependencies(cell, known)}
        return replace(self, cells=tuple(cell for cell in self.cells if cell.key in kept))


def with_dependencies(cell: Cell, known: Mapping[str, Cell]) -> list[Cell]:
    """All dependencies of a cell, then the cell; `known` maps keys to cells."""
    found: dict[str, Cell] = {}
    for needed in cell.dependencies:
        found |= {each.key: each for each in with_dependencies(known[keys.run_key(needed)], known)}
    return list((found | {cell.key: cell}).values())


def expand(request: MatrixRequest) -> Matrix:
    """Resolve a request to a matrix of cells. Raises UserError for an unknown name or a bad option."""
    recipe = recipes.load(request.recipe) if request.recipe else None
    settings = Settings(request.data, request.options, request.model, recipe)
    chosen_attacks = select_plugins(attacks, [name for name in request.attacks if name != NO_ATTACK])
    chosen_defenses = select_plugins(defenses, request.defenses)
    chosen_evaluators = select_plugins(evaluators, request.evaluators or ["all"])
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
    """Collects the cells of one data set and model, without duplicates, each after its dependencies."""

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
        self.train = settings.train(precision, clip_defaults(self.model.name))
        if self.train.thesaurus == "auto":
            self.train = self.train.model_copy(update={"thesaurus": thesaurus.best(self.workspace.bundle.synonyms)})

    def add(self, attack: PluginSpec | None, defense: PluginSpec, seed: int, train: TrainSpec | None = None) -> Cell:
        """Add a cell and its dependencies; `train` defaults to the recipe's. Raises UserError if it cannot be poisoned."""
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
        """Add the controls of a defended cell; plain CLIP, and a defense that starts from trained weights, have none."""
        spec = cell.spec
        if spec.defense.name == UNDEFENDED or spec.defense.beside or cell.start is not None:
            return []
        specs = [PluginSpec(**entry.identity(), params={}, beside=spec.defense) for entry in controls()]
        return [self._add(spec.model_copy(update={"defense": control})) for control in specs]

    def _add(self, spec: RunSpec) -> Cell:
        cell = _cell(spec, self._evaluators, self._settings, self.workspace)
        for needed in cell.dependencies:
            if keys.run_key(needed) not in self._cells:
                self._add(needed)
        return self._cells.setdefault(cell.key, cell)

    def with_dependencies(self, cell: Cell) -> list[Cell]:
        return with_dependencies(cell, self._cells)

    def matrix(self) -> Matrix:
        return Matrix(tuple(self._cells.values()), self.workspace)


def select_plugins(registry: Registry[P], names: Sequence[str]) -> list[Entry[P]]:
    """The plugins of these names; "all" selects every one but the controls. Raises UserError for an unknown name."""
    chosen = [registry[name] for name in dict.fromkeys(names) if name != "all"]
    return [entry for entry in registry if entry not in controls()] if "all" in names else chosen


def controls() -> list[Entry[Defense]]:
    """The registered defenses that are controls."""
    return [entry for entry in defenses if entry.plugin.control(Budget(1, 1)) is not None]


def defense_spec(settings: Settings, entry: Entry[Defense]) -> PluginSpec:
    """The resolved defense, with the one whose model it starts from or filters with."""
    spec = settings.plugin("defense", entry, defenses)
    base = entry.plugin.starts_from() or (UNDEFENDED if _guide(spec) in _GUIDES else None)
    return spec.model_copy(update={"builds_on": defense_spec(settings, defenses[base])}) if base else spec


def _guide(spec: PluginSpec) -> Guide | None:
    plugin = defenses[spec.name].plugin
    return plugin.selects_with(plugin.Params.model_validate(spec.params))


def attack_spec(settings: Settings, entry: Entry[Attack]) -> PluginSpec:
    """The resolved attack, with plain CLIP if it is optimised against a surrogate."""
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
        evaluations.append(CellEvaluation(evaluator, keys.eval_key(spec, evaluator, clean, tasks), clean, reason))
    reasons = [defenses[spec.defense.name].plugin.supports(spec)]
    if spec.attack is not None:
        reasons.append(attacks[spec.attack.name].plugin.supports(spec))
        workspace.poison(spec)
    builds_on = spec.model_copy(update={"defense": spec.defense.builds_on}) if spec.defense.builds_on else None
    control_of = spec.model_copy(update={"defense": spec.defense.beside}) if spec.defense.beside else None
    if control_of is not None:
        reasons.append(defenses[control_of.defense.name].plugin.supports(control_of))
    guides = {"undefended": builds_on, "clean": unpoisoned}
    return Cell(
        spec,
        keys.run_key(spec),
        tuple(evaluations),
        start=builds_on if defenses[spec.defense.name].plugin.starts_from() else None,
        guide=guides.get(_guide(spec.defense) or ""),
        surrogate=unpoisoned if spec.attack and spec.attack.builds_on else None,
        control_of=control_of,
        unsupported=next((reason for reason in reasons if reason), None),
    )
