"""What to cite: of plugins, or of everything that a results folder used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench import references
from bench.errors import UserError, did_you_mean
from bench.matrix.schema import Plugin
from bench.references import Reference
from bench.registry import KINDS
from bench.reports.records import EXTERNAL, Run

_PARTS = {"attack": "attacks", "defense": "defenses", "data": "datasets"}


def of_names(names: Sequence[str]) -> list[Reference]:
    """The papers of plugins, each once. Raises UserError for a name that no plugin has."""
    for name in names:
        every = [each for registry in KINDS.values() for each in registry.names()]
        if name not in every:
            raise UserError(f"nothing is called '{name}'; {did_you_mean(name, every)} (a folder of results has a store.json)")
    plugins = (registry[name].plugin for name in names for registry in KINDS.values() if name in registry.names())
    return _once(entry for plugin in plugins for entry in references.of_plugin(plugin))


def of_runs(runs: Sequence[Run]) -> tuple[list[Reference], list[str]]:
    """Papers of bench, of open_clip and of all that made these cells; and what of it is not installed here."""
    used = dict.fromkeys(sorted(pair for run in runs for pair in _used(run)))
    here = [KINDS[kind][name].plugin for kind, name in used if name in KINDS[kind].names()]
    missing = [f"{KINDS[kind].kind} '{name}'" for kind, name in used if name not in KINDS[kind].names()]
    found = (entry for plugin in here for entry in references.of_plugin(plugin))
    return _once([*references.resolved(references.ALWAYS, "bench"), *found]), missing


def _used(run: Run) -> Iterator[tuple[str, str]]:
    """Kind and name of each plugin behind a cell; of a defense also what it builds on and stands beside."""
    for part, kind in _PARTS.items():
        plugin: Plugin | None = getattr(run.spec, part)
        while plugin and plugin.name and plugin.name != EXTERNAL:
            yield kind, plugin.name
            plugin, kind = plugin.builds_on or plugin.beside, "defenses"
    yield from (("evaluators", each.name) for each in run.evaluations if each.name and each.status == "done")


def _once(entries: Iterable[Reference]) -> list[Reference]:
    return list({entry.key: entry for entry in entries}.values())
