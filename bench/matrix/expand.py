"""From a request to the cells of a matrix."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import keys
from bench.config import PluginSpec, RunSpec, Settings
from bench.data import thesaurus
from bench.matrix.workspace import Workspace
from bench.registry import Entry, Registry, attacks, defenses, evaluators

NO_ATTACK = "none"
UNDEFENDED = "clip"
"""The defense whose unpoisoned model gives the ASR floor."""


@dataclass(frozen=True)
class Request:
    """What the user asked for. Empty `evaluators` means all."""

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

    `start` is the cell whose weights it starts from, `surrogate` the unpoisoned cell that its attack is crafted against.
    """

    spec: RunSpec
    key: str
    evaluations: tuple[Evaluation, ...]
    start: RunSpec | None = None
    surrogate: RunSpec | None = None
    unsupported: str | None = None

    @property
    def title(self) -> str:
        attack = self.spec.attack.name if self.spec.attack else "no attack"
        return f"{self.spec.defense.name} · {attack} · {self.spec.data.name} · seed {self.spec.seed}"

    def as_request(self) -> dict[str, Any]:
        """The cell as a report needs it, whether or not it ever runs."""
        attack = self.spec.attack
        return {
            "run_key": self.key,
            "data": self.spec.data.name,
            "model": self.spec.model.name,
            "attack": attack.name if attack else NO_ATTACK,
            "attack_rate": attack.params["rate"] if attack else None,
            "defense": self.spec.defense.name,
            "seed": self.spec.seed,
            "spec": self.spec.model_dump(mode="json"),
            "unsupported": self.unsupported,
            "evaluators": [
                {"name": each.evaluator.name, "eval_key": each.key, "unsupported": each.unsupported}
                for each in self.evaluations
            ],
        }


@dataclass(frozen=True)
class Matrix:
    """Cells in the order to run them: a cell comes after those that it starts from or is measured against."""

    cells: tuple[Cell, ...]
    workspace: Workspace = field(repr=False)

    def as_request(self) -> dict[str, Any]:
        return {"cells": [cell.as_request() for cell in self.cells]}


def expand(request: Request) -> Matrix:
    """Resolve a request to cells. Raises UserError for anything in it that cannot be."""
    settings = Settings(request.data, request.options, request.model)
    chosen_attacks = _choose(attacks, [name for name in request.attacks if name != NO_ATTACK])
    chosen_defenses = _choose(defenses, request.defenses)
    chosen_evaluators = _choose(evaluators, request.evaluators or ["all"])
    settings.check_options("attack", chosen_attacks, attacks)
    settings.check_options("defense", chosen_defenses, defenses)
    settings.check_options("evaluator", chosen_evaluators, evaluators)
    attack_specs: list[PluginSpec | None] = [_attack_spec(settings, entry) for entry in chosen_attacks]
    if NO_ATTACK in request.attacks:
        attack_specs.insert(0, None)
    evaluator_specs = [settings.plugin("evaluator", entry, evaluators) for entry in chosen_evaluators]
    defense_specs = [_defense_spec(settings, entry) for entry in chosen_defenses]
    model = settings.model
    workspace = Workspace(settings, request.data, request.data_root, request.downstream_root)
    train = settings.train(request.precision)
    if train.thesaurus == "auto":
        train = train.model_copy(update={"thesaurus": thesaurus.best(workspace.bundle.synonyms)})

    cells: dict[str, Cell] = {}

    def add(spec: RunSpec) -> None:
        cell = _cell(spec, evaluator_specs, settings, workspace)
        for needed in (cell.surrogate, cell.start, *(evaluation.clean for evaluation in cell.evaluations)):
            if needed is not None and keys.run_key(needed) not in cells:
                add(needed)
        cells.setdefault(cell.key, cell)

    for seed, attack, defense in itertools.product(request.seeds, attack_specs, defense_specs):
        add(RunSpec(data=workspace.data, attack=attack, defense=defense, model=model, train=train, seed=seed))
    return Matrix(tuple(cells.values()), workspace)


def _choose(registry: Registry, names: Sequence[str]) -> list[Entry]:
    chosen = [registry[name] for name in dict.fromkeys(names) if name != "all"]
    return list(registry) if "all" in names else chosen


def _defense_spec(settings: Settings, entry: Entry) -> PluginSpec:
    spec = settings.plugin("defense", entry, defenses)
    start = entry.plugin.starts_from()
    return spec.model_copy(update={"builds_on": _defense_spec(settings, defenses[start])}) if start else spec


def _attack_spec(settings: Settings, entry: Entry) -> PluginSpec:
    spec = settings.plugin("attack", entry, attacks)
    crafted = entry.plugin(entry.plugin.Params.model_validate(spec.params)).needs_surrogate()
    return spec.model_copy(update={"builds_on": _defense_spec(settings, defenses[UNDEFENDED])}) if crafted else spec


def _cell(spec: RunSpec, evaluator_specs: list[PluginSpec], settings: Settings, workspace: Workspace) -> Cell:
    undefended = _defense_spec(settings, defenses[UNDEFENDED])
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
        tasks = workspace.downstream.fingerprints if plugin.needs_tasks else {}
        evaluations.append(Evaluation(evaluator, keys.eval_key(spec, evaluator, clean, tasks), clean, reason))
    reasons = [defenses[spec.defense.name].plugin.supports(spec)]
    if spec.attack is not None:
        reasons.append(attacks[spec.attack.name].plugin.supports(spec))
        workspace.poison(spec)
    start = spec.defense.builds_on
    return Cell(
        spec,
        keys.run_key(spec),
        tuple(evaluations),
        start=spec.model_copy(update={"defense": start}) if start else None,
        surrogate=unpoisoned if spec.attack and spec.attack.builds_on else None,
        unsupported=next((reason for reason in reasons if reason), None),
    )
