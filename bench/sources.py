"""Source digests of the training engine and of every built-in plugin.

`sources.json` pins the digest of each version. The digest of code that differs from it, in an edited checkout, enters the keys
of runs, so that an edited method is never taken for the released one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

ENGINE = "2"
"""Version of the training engine: loop, augmentation, EDA, models, seeds. Raise it with a change that alters numbers."""

PIN_FILE = "sources.json"
_ENGINE_ROOTS = ("bench.training.trainer", "bench.matrix.cell", "bench.models.frozen", "bench.keys")
_ENGINE_ALONE = ("bench.matrix.workspace",)
"""Engine modules whose imports are not followed."""
_EVALUATION = ("bench.matrix.evaluation",)
_ENGINE_PACKAGES = ("bench.training", "bench.models", "bench.data", "bench.api", "bench.intervals")


def engine() -> str:
    """The version of the training engine, with the digest of its source if that is not the pinned one."""
    source = edited("engine", "engine", ENGINE, engine_modules())
    return f"{ENGINE}+{source[:16]}" if source else ENGINE


def edited(kind: str, name: str, version: str, modules: Iterable[str]) -> str | None:
    """The digest of the modules' code if it differs from the pinned one of that version, else None."""
    found = digest(tuple(modules))
    return None if pinned().get(kind, {}).get(name) == {"version": version, "digest": found} else found


@cache
def pinned() -> dict[str, Any]:
    """The content of sources.json: kind, then name, to version and digest."""
    content: dict[str, Any] = json.loads((files("bench") / PIN_FILE).read_text(encoding="utf-8"))
    return content


@cache
def engine_modules() -> tuple[str, ...]:
    return tuple(sorted({*closure(_ENGINE_ROOTS, _ENGINE_PACKAGES), *_ENGINE_ALONE}))


def plugin_modules(module: str) -> tuple[str, ...]:
    """A built-in's module and its imports within its package and `bench.data`, without the engine's modules.

    Evaluators also depend on the code that gives them model and probes.
    """
    package = module.rpartition(".")[0]
    context = _EVALUATION if package == "bench.evaluators" else ()
    used = {*closure((module,), (package, "bench.data")), *context}
    return tuple(sorted(name for name in used if name == module or name not in engine_modules()))


@cache
def closure(roots: tuple[str, ...], packages: tuple[str, ...]) -> tuple[str, ...]:
    """The modules `roots` and their transitive imports within `packages`, sorted."""
    found: set[str] = set()
    pending = list(roots)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += [name for name in _imports(module) if any(f"{name}.".startswith(f"{each}.") for each in packages)]
    return tuple(sorted(found))


@cache
def digest(modules: tuple[str, ...]) -> str:
    """sha256 of the names and code of modules, without comments, docstrings and blank lines."""
    hasher = hashlib.sha256()
    for module in modules:
        hasher.update(f"{module}\n{code(_source(module))}\n".encode())
    return hasher.hexdigest()


def code(source: str) -> str:
    """The source of a module without comments, docstrings, blank lines and trailing whitespace."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = node.lineno - 1, node.end_lineno or node.lineno
            lines[first:last] = [lines[first][: node.col_offset], *[""] * (last - first - 1)]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _imports(module: str) -> Iterator[str]:
    """The modules that a module imports, anywhere in it."""
    spec = importlib.util.find_spec(module)
    package = module if spec and spec.submodule_search_locations else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name(f"{'.' * node.level}{node.module or ''}", package)
            parts = (f"{base}.{alias.name}" for alias in node.names)
            yield base
            yield from (part for part in parts if _is_module(part))


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin and spec.has_location else ""
