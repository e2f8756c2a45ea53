"""Runs grouped for tables: one section for each setting, with a group of seeds for each attack and defense."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.canonical import identity
from bench.matrix.schema import AttackParamsRecord, AttackRecord, PluginRecord
from bench.reports.labels import Labels, setting_titles, short_hash
from bench.reports.records import Evaluation, Run

EARLIER = ", earlier code"
"""Appended to the label of a plugin if there are later runs with another version or source."""


@dataclass(frozen=True)
class Group:
    """The runs of one table cell, one for each seed."""

    attack: str
    defense: str
    rate: float | None
    undefended: bool
    runs: tuple[Run, ...]

    @property
    def anchor(self) -> str:
        """The anchor of the runs on the page."""
        if len(self.runs) == 1:
            return f"run-{self.runs[0].key}"
        return f"cell-{short_hash(' '.join(run.key for run in self.runs))}"

    @property
    def name(self) -> str:
        return f"{self.defense} × {self.attack}"


@dataclass(frozen=True, eq=False)
class Section:
    """All groups with the same data, model and training recipe; compared by identity, so that what follows from it is cached.

    groups: by attack and defense. controls: by attack, defense and name of the control.
    """

    id: str
    title: str
    subtitle: str
    data: str
    model: str
    attacks: tuple[str, ...]
    defenses: tuple[str, ...]
    groups: dict[tuple[str, str], Group]
    controls: dict[tuple[str, str, str], Group]
    evaluators: Labels

    @property
    def shown(self) -> list[Group]:
        """All groups, controls last."""
        return [*self.groups.values(), *self.controls.values()]

    def label(self, evaluation: Evaluation) -> str:
        """The label of the evaluator; empty if nothing was measured."""
        record = evaluation.record
        return self.evaluators.of(record.evaluator) if record and record.evaluator else ""

    def group(self, attack: str, defense: str) -> Group | None:
        return self.groups.get((attack, defense))

    def undefended(self, attack: str) -> Group | None:
        """Plain CLIP under an attack, the first of several variants."""
        return next((group for (at, _), group in self.groups.items() if at == attack and group.undefended), None)

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups.values() for run in group.runs]


class VersionedLabels:
    """Labels of the plugins of runs, marked with EARLIER if a later run has other code under the same name."""

    def __init__(self, plugins: Iterable[tuple[PluginRecord, Run]]) -> None:
        known = list(plugins)
        self._labels = Labels(spec for spec, _ in known)
        last: dict[str, dict[str, str]] = defaultdict(lambda: defaultdict(str))
        for spec, run in known:
            made, code = last[spec.name], _code(spec)
            made[code] = max(made[code], _finished(run))
        self._present = {name: max(made, key=made.__getitem__) for name, made in last.items()}

    def of(self, spec: PluginRecord) -> str:
        earlier = self._present[spec.name] != _code(spec)
        return f"{self._labels.of(spec)}{EARLIER}" if earlier else self._labels.of(spec)


def _code(spec: PluginRecord) -> str:
    return identity([spec.version, spec.source])


def _finished(run: Run) -> str:
    """When a run was finished, in ISO format; a requested run that is missing sorts last."""
    return run.record.provenance.finished if run.record else "to come"


def sections_of(runs: Sequence[Run]) -> list[Section]:
    by_setting: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_setting[run.setting].append(run)
    given = {run.weights: run.given for run in runs if run.weights and run.given}
    titles = setting_titles(by_setting, given)
    return [_section(setting, titles[setting], members) for setting, members in by_setting.items()]


def _section(setting: str, titles: tuple[str, str], runs: list[Run]) -> Section:
    attacks = VersionedLabels((_attack(run), run) for run in runs)
    defenses = VersionedLabels((run.beside or _defense(run), run) for run in runs)
    keyed: dict[tuple[str, str], list[Run]] = defaultdict(list)
    controls: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.beside:
            controls[attacks.of(_attack(run)), defenses.of(run.beside), run.defense].append(run)
        else:
            keyed[attacks.of(_attack(run)), defenses.of(_defense(run))].append(run)
    attack_order = {
        attack: (m[0].attack != "none", m[0].attack, attack.endswith(EARLIER), m[0].attack_rate or 0.0, attack)
        for (attack, _), m in keyed.items()
    }
    defense_order = {
        defense: (m[0].defense != "clip", m[0].defense, defense.endswith(EARLIER), defense) for (_, defense), m in keyed.items()
    }
    groups = {key: _group(*key, keyed[key]) for key in sorted(keyed, key=lambda k: (attack_order[k[0]], defense_order[k[1]]))}
    evaluations = [e for run in runs for e in run.evaluations]
    return Section(
        id=f"setting-{short_hash(setting)}",
        title=titles[0],
        subtitle=titles[1],
        data=runs[0].data,
        model=runs[0].model,
        attacks=tuple(sorted(attack_order, key=attack_order.__getitem__)),
        defenses=tuple(sorted(defense_order, key=defense_order.__getitem__)),
        groups=groups,
        controls={
            (attack, defense, name): _group(attack, f"{name} for {defense}", members)
            for (attack, defense, name), members in sorted(controls.items())
        },
        evaluators=Labels(e.record.evaluator for e in evaluations if e.record and e.record.evaluator),
    )


def _attack(run: Run) -> PluginRecord:
    return run.spec.attack or AttackRecord(name=run.attack, params=AttackParamsRecord(rate=run.attack_rate))


def _defense(run: Run) -> PluginRecord:
    return run.spec.defense or PluginRecord(name=run.defense)


def _group(attack: str, defense: str, runs: list[Run]) -> Group:
    """A group with one run for each seed."""
    return Group(
        attack=attack,
        defense=defense,
        rate=runs[0].attack_rate,
        undefended=runs[0].defense == "clip",
        runs=tuple({run.seed: run for run in sorted(runs, key=lambda run: run.seed)}.values()),
    )
