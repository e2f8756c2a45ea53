"""Registries of plugins, one for each kind, with the origin of every plugin."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench import sources
from bench.api.attack import Attack
from bench.api.data import Dataset
from bench.api.defense import Defense
from bench.api.evaluator import Evaluator
from bench.api.plugin import Plugin
from bench.errors import UserError, did_you_mean

P = TypeVar("P", bound=Plugin)

BUILT_IN = "built-in"
IMPORTED = "module"
_OURS = ("attacks", "bench", "defenses", "evaluators")
_origin = BUILT_IN


class DuplicateName(UserError):
    """Two plugins of one kind with one name."""


@dataclass(frozen=True)
class Entry(Generic[P]):
    """A registered plugin; `source` is the sha256 of the file of one that is not built in."""

    plugin: type[P]
    origin: str
    source: str | None = None

    def identity(self) -> dict[str, Any]:
        """What enters a run's key: name and version; also the digest of the source unless it is a built-in as released.

        Raises UserError for a plugin that is not defined in a file.
        """
        name, version, source = self.plugin.name, self.plugin.version, self.source
        kind = next(registry.kind for registry in KINDS.values() if issubclass(self.plugin, registry.base))
        if self.origin.startswith(BUILT_IN):
            source = sources.edited(kind, name, version, sources.plugin_modules(self.plugin.__module__))
        elif source is None:
            raise UserError(
                f"the {kind} '{name}' is not defined in a file, by which its runs are identified: write its class to one (in a "
                "notebook with %%writefile FILE.py) and load that with --plugin"
            )
        return {"name": name, "version": version, **({"source": source} if source else {})}


class Registry(Generic[P]):
    def __init__(self, kind: str, base: type[P]) -> None:
        self.kind = kind
        self.base = base
        self._entries: dict[str, Entry[P]] = {}

    def register(self, name: str) -> Callable[[type[P]], type[P]]:
        """A class decorator that registers a plugin. Raises DuplicateName naming both origins."""

        def add(plugin: type[P]) -> type[P]:
            if not (isinstance(plugin, type) and issubclass(plugin, self.base)):
                raise TypeError(f"@register: {plugin!r} is not a subclass of {self.base.__name__}")
            origin = _origin_of(plugin)
            if name in self._entries:
                first = self._entries[name].origin
                raise DuplicateName(f"the {self.kind} '{name}' of {origin} has the same name as one of {first}; rename it")
            plugin.name = name
            self._entries[name] = Entry(plugin, origin, None if origin.startswith(BUILT_IN) else _source(plugin))
            return plugin

        return add

    def __getitem__(self, name: str) -> Entry[P]:
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} '{name}'; {near(name, self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry[P]]:
        return iter([self._entries[name] for name in self.names()])

    def names(self) -> list[str]:
        return sorted(self._entries)

    def forget(self, origin: str) -> None:
        """Unregister the plugins of one origin."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.origin != origin}


def near(name: str, known: Iterable[str]) -> str:
    """`did_you_mean`, and how to load a plugin from a file if none was loaded."""
    loaded = any(entry.origin.startswith("--plugin") for registry in KINDS.values() for entry in registry)
    return did_you_mean(name, known) + ("" if loaded else " (a plugin of your own needs --plugin FILE)")


def _origin_of(plugin: type[Plugin]) -> str:
    """The origin of a plugin being registered: the current `registering_from`, else its module."""
    if _origin != BUILT_IN:
        return _origin
    module = plugin.__module__
    return f"{BUILT_IN if module.partition('.')[0] in _OURS else IMPORTED} {module}"


def _source(plugin: type[Plugin]) -> str | None:
    """The sha256 of the file that defines a plugin; None without one, as in a notebook."""
    try:
        return hashlib.sha256(Path(str(inspect.getsourcefile(sys.modules[plugin.__module__]))).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None


@contextmanager
def registering_from(origin: str) -> Iterator[None]:
    """Set the origin of the plugins registered within the block."""
    global _origin
    before, _origin = _origin, origin
    try:
        yield
    finally:
        _origin = before


attacks: Registry[Attack] = Registry("attack", Attack)  # type: ignore[type-abstract]
defenses: Registry[Defense] = Registry("defense", Defense)  # type: ignore[type-abstract]
evaluators: Registry[Evaluator] = Registry("evaluator", Evaluator)  # type: ignore[type-abstract]
datasets: Registry[Dataset] = Registry("data set", Dataset)  # type: ignore[type-abstract]
KINDS: dict[str, Registry[Any]] = {
    "attacks": attacks,
    "defenses": defenses,
    "evaluators": evaluators,
    "datasets": datasets,
}

register_attack = attacks.register
register_defense = defenses.register
register_evaluator = evaluators.register
register_dataset = datasets.register
