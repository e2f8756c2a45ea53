"""Citations of plugins, or of everything that a results folder used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench import references
from bench.errors import UserError, did_you_mean
from bench.matrix.schema import PluginRecord
from bench.references import Reference
from bench.registry import KINDS
from bench.reports.records import EXTERNAL, Run

_PARTS = {"attack": "attacks", "defense": "defenses", "data": "datasets"}


def cite_plugins(names: Sequence[str]) -> list[Reference]:
    """The papers of plugins, without duplicates. Raises UserError for an unknown name."""
    for name in names:
        every = [each for registry in KINDS.values() for each in registry.names()]
        if name not in every:
            raise UserError(f"nothing is named '{name}'; {did_you_mean(name, every)} (a results folder has a store.json)")
    plugins = (registry[name].plugin for name in names for registry in KINDS.values() if name in registry.names())
    return _unique(entry for plugin in plugins for entry in references.for_plugin(plugin))


def cite_runs(runs: Sequence[Run]) -> tuple[list[Reference], list[str]]:
    """The papers of bench, open_clip and all plugins behind these cells; and the plugins that are not installed here."""
    used = dict.fromkeys(sorted(pair for run in runs for pair in _used(run)))
    installed = [KINDS[kind][name].plugin for kind, name in used if name in KINDS[kind].names()]
    missing = [f"{KINDS[kind].kind} '{name}'" for kind, name in used if name not in KINDS[kind].names()]
    found = (entry for plugin in installed for entry in references.for_plugin(plugin))
    return _unique([*references.resolve(references.ALWAYS_CITED, "bench"), *found]), missing


def _used(run: Run) -> Iterator[tuple[str, str]]:
    """Kind and name of each plugin behind a cell, including the defenses that its defense builds on or is a control of."""
    for part, kind in _PARTS.items():
        plugin: PluginRecord | None = getattr(run.spec, part)
        while plugin and plugin.name and plugin.name != EXTERNAL:
            yield kind, plugin.name
            plugin, kind = plugin.builds_on or plugin.beside, "defenses"
    yield from (("evaluators", each.name) for each in run.evaluations if each.name and each.status == "done")


def _unique(entries: Iterable[Reference]) -> list[Reference]:
    return list({entry.key: entry for entry in entries}.values())
