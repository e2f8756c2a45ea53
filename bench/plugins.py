"""Loads plugins: the built-in packages, entry points, and --plugin files.

A plugin file is Python code and runs with the user's permissions; load only files you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from bench.errors import UserError
from bench.registry import IMPORTED, KINDS, DuplicateName, registering_from

BUILT_IN_PACKAGES = ("bench.attacks", "bench.defenses", "bench.evaluators", "bench.data")


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that could not be loaded."""

    origin: str
    error: str
    traceback: str


_broken: dict[str, BrokenPlugin] = {}
_loaded: set[str] = set()
_origins: dict[Path, str] = {}
"""The origin of each loaded file."""


def load(files: Sequence[str | Path] = ()) -> list[BrokenPlugin]:
    """Load every plugin once, and a file again if it has changed; returns those that failed, of which nothing is registered.

    Raises UserError if a file does not exist, and DuplicateName if it registers a name that is taken.
    """
    for package in BUILT_IN_PACKAGES:
        _load_package(package)
    for kind in KINDS:
        for point in entry_points(group=f"bench.{kind}"):
            _attempt(f"entry point {point.name} = {point.value}", point.load)
    for file in files:
        path = Path(file).resolve()
        if not path.is_file():
            raise UserError(f"--plugin {file}: no such file")
        once = f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        if once not in _loaded:
            _forget(path)
        _attempt(f"--plugin {file}", partial(_run_file, path), refuse_duplicates=True, once=once)
        _origins.setdefault(path, f"--plugin {file}")
    return list(_broken.values())


def process_local() -> list[str]:
    """Plugins registered by code of this process, which other processes do not find."""
    return [
        f"the {registry.kind} '{entry.plugin.name}'"
        for registry in KINDS.values()
        for entry in registry
        if entry.origin.startswith(f"{IMPORTED} ")
    ]


def plugin_location(error: BaseException) -> str:
    """The innermost line of plugin code in a traceback, as " (FILE, line N)"; empty if there is none."""
    tops = {_top(entry.plugin.__module__) for registry in KINDS.values() for entry in registry} - {_top("bench.data")}
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for frame, line in reversed(frames):
        if _top(frame.f_globals.get("__name__", "")) in tops:
            return f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""


def _top(module: str) -> str:
    """The top-level package of a plugin's module; of a built-in bench.attacks and so on."""
    first, *rest = module.split(".")
    return f"{first}.{rest[0]}" if first == "bench" and rest else first


def _forget(path: Path) -> None:
    """Unregister what a changed file had registered."""
    _loaded.difference_update([each for each in _loaded if each.startswith(f"{path} ")])
    if origin := _origins.pop(path, None):
        _broken.pop(origin, None)
        for registry in KINDS.values():
            registry.forget(origin)


def _load_package(name: str) -> None:
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        importlib.import_module(module.name)


def _attempt(origin: str, action: Callable[[], object], refuse_duplicates: bool = False, once: str = "") -> None:
    """Load one plugin, unless something with the id `once` (by default its origin) was loaded before."""
    once = once or origin
    if once in _loaded:
        return
    _loaded.add(once)
    try:
        with registering_from(origin):
            action()
    except (Exception, SystemExit) as error:
        for registry in KINDS.values():
            registry.forget(origin)
        if refuse_duplicates and isinstance(error, DuplicateName):
            _loaded.discard(once)
            raise
        _broken[origin] = BrokenPlugin(origin, f"{type(error).__name__}: {error}", traceback.format_exc())


def _run_file(path: Path) -> None:
    name = f"bench_plugin_{path.stem}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--plugin {path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
