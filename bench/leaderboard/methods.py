"""One attack or defense across the settings of the board."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.interface.describe import describe_plugin
from bench.leaderboard.settings import Row, Setting
from bench.registry import KINDS
from bench.reports.labels import short_hash
from bench.reports.sections import Group
from bench.reports.tables import AttackVerdict, Cell

_NOT_ON_RECORD = ("none", "external", "unknown")


@dataclass(frozen=True)
class Result:
    """One defense against one attack in one setting; `verdict` says whether the attack is effective."""

    setting: Setting
    group: Group
    cell: Cell
    verdict: AttackVerdict


@dataclass(frozen=True)
class Method:
    """An attack or a defense.

    kind: "attack" or "defense". text: its description, whose second line is the summary, empty if it is not installed here.
    versions: those on record. ranks: its rows, of a defense. results: one for each setting, attack and defense.
    """

    kind: str
    name: str
    text: str
    versions: tuple[str, ...]
    ranks: tuple[tuple[Setting, Row], ...]
    results: tuple[Result, ...]

    @property
    def summary(self) -> str:
        return self.text.split("\n")[1] if self.text else ""

    @property
    def file(self) -> str:
        return method_file(self.kind, self.name)


def method_file(kind: str, name: str) -> str:
    """The name of a method's page, for any name in a record."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:60]
    return f"{kind}-{plain}.html" if plain == name else f"{kind}-{plain}-{short_hash(name)}.html"


def methods_of(settings: Sequence[Setting]) -> list[Method]:
    """All methods on record, defenses first, by name."""
    results = [result for setting in settings for result in _results(setting)]
    found = []
    for kind in ("defense", "attack"):
        names = sorted({_name(kind, group) for setting in settings for group in setting.section.groups.values()})
        found += [_method(kind, name, settings, results) for name in names if name not in _NOT_ON_RECORD]
    return found


def _method(kind: str, name: str, settings: Sequence[Setting], results: Sequence[Result]) -> Method:
    ranks = [(setting, row) for setting in settings for row in setting.rows if kind == "defense" and row.name == name]
    groups = [group for setting in settings for group in setting.section.groups.values() if _name(kind, group) == name]
    return Method(
        kind=kind,
        name=name,
        text=describe_plugin(f"{kind}s", name) if name in KINDS[f"{kind}s"].names() else "",
        versions=tuple(sorted({version for group in groups for version in _versions(kind, group)})),
        ranks=tuple(ranks),
        results=tuple(result for result in results if _name(kind, result.group) == name),
    )


def _name(kind: str, group: Group) -> str:
    run = group.runs[0]
    return run.defense if kind == "defense" else run.attack


def _versions(kind: str, group: Group) -> Iterator[str]:
    for run in group.runs:
        plugin = run.spec.defense if kind == "defense" else run.spec.attack
        if plugin:
            yield f"{plugin.version}{f', source {plugin.source!s:.16}' if plugin.source else ''}"


def _results(setting: Setting) -> Iterator[Result]:
    """The cells of the setting's ASR table that were asked for."""
    if setting.asr is None:
        return
    for row in setting.asr.rows:
        for attack, cell, verdict in zip(setting.asr.attacks, row.cells, setting.asr.verdicts, strict=True):
            if group := setting.section.groups.get((attack, row.defense)):
                yield Result(setting, group, cell, verdict)
