"""Recipes: default settings in TOML, from `bench/recipes` and plugins by name, or from a file."""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.errors import UserError, did_you_mean
from bench.registry import KINDS

SECTIONS = ("data", "attack", "defense", "evaluator", "model", "train")
BASE = "base"
NAME = "name"
PUBLISHED = "published"
"""The recipe of data sets without their own."""
SUFFIX = ".toml"
PRETRAINED = "model.pretrained"
"""The option of --set that --pretrained is short for."""


@dataclass(frozen=True)
class Recipe:
    """A recipe; `layers` are (name, content as JSON) of its files, each after its base."""

    name: str
    layers: tuple[tuple[str, str], ...]

    @cached_property
    def tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for _, content in self.layers:
            tree = merge(tree, json.loads(content))
        return tree

    def file_of(self, section: str, option: str) -> str:
        """The file that sets an option last, in the section or an enclosing one; the recipe's own if none does."""
        return next(
            (name for name, content in reversed(self.layers) if has_option(json.loads(content), section, option)), self.name
        )


def names() -> list[str]:
    return sorted({*_own_names(), *plugin_recipes()})


def _own_names() -> list[str]:
    return [file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX)]


def plugin_recipes() -> dict[str, Path]:
    """The recipe files of plugins, by name. Raises UserError if a name is taken twice."""
    found: dict[str, Path] = {}
    for entry in (entry for registry in KINDS.values() for entry in registry):
        for file in vars(entry.plugin).get("recipes", ()):
            path = Path(str(inspect.getsourcefile(entry.plugin))).with_name(file)
            name = path.name.removesuffix(SUFFIX)
            if name in _own_names() or found.get(name, path) != path:
                raise UserError(f"{entry.origin}: the name of recipe '{name}' is taken; rename {path}")
            found[name] = path
    return found


def origin(name: str) -> str:
    """The origin of a named recipe."""
    return str(plugin_recipes().get(name, "built-in"))


def for_data(data: str) -> Recipe:
    """The recipe named like the data set, else the published one."""
    return load(data if data in names() else PUBLISHED)


def load(name: str | Recipe) -> Recipe:
    """A recipe by name, or by file if it ends in .toml. Raises UserError naming the file."""
    return name if isinstance(name, Recipe) else Recipe(name, tuple(_layers(name, Path(), ())))


def inline(tree: Mapping[str, Any]) -> Recipe:
    """A recipe given as sections, with an optional `name` for reports. Raises UserError as `load` does."""
    rest = dict(tree)
    name = str(rest.pop(NAME, ""))
    return Recipe(name, tuple(_checked(name or "inline", rest, Path(), ())))


def summary(name: str) -> str:
    """The first line of a named recipe, if it is a comment."""
    path = plugin_recipes().get(name)
    first = (_text(path) if path else _own_text(name)).partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def has_option(tree: Mapping[str, Any], section: str, option: str) -> bool:
    """Whether a tree sets an option in a section such as attack.badnet, or in an enclosing one."""
    for part in section.split("."):
        tree = tree.get(part, {})
        if not isinstance(tree, Mapping):
            return False
        if option in tree:
            return True
    return False


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The deep merge of two trees, in which `above` takes precedence."""
    both = {key: merge(value, {}) if isinstance(value, dict) else value for key, value in below.items()}
    for key, value in above.items():
        known = both.get(key)
        both[key] = merge(known if isinstance(known, dict) else {}, value) if isinstance(value, dict) else value
    return both


def _layers(name: str, folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The files of a recipe, its base first; a path in a file is relative to that file's folder."""
    path = Path(os.path.normpath(folder / name)) if name.endswith(SUFFIX) else plugin_recipes().get(name)
    label = str(path) if name.endswith(SUFFIX) else name
    if label in above:
        raise UserError(f"--recipe {above[0]}: its bases form a cycle: {' -> '.join([*above, label])}")
    text = _text(path) if path else _own_text(name, above)
    yield from _checked(label, _parsed(label, text), path.parent if path else Path(), above)


def _checked(label: str, tree: dict[str, Any], folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The validated layer of a file in `folder`, after those of its base."""
    base = tree.pop(BASE, None)
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f'--recipe {label}: {BASE}: expected the name or file of a recipe, for example {BASE} = "small"')
        yield from _layers(base, folder, (*above, label))
    _check(label, tree)
    yield label, json.dumps(tree, default=str)


def _own_text(name: str, above: tuple[str, ...] = ()) -> str:
    if name not in _own_names():
        where = f"--recipe {above[-1]}: {BASE} = {name}" if above else f"--recipe {name}"
        raise UserError(f"{where}: no such recipe; {did_you_mean(name, names())} (a file ends in {SUFFIX})")
    return str((_folder() / f"{name}{SUFFIX}").read_text("utf-8"))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.stem, names())
        raise UserError(f"--recipe {path}: no such file; built-in recipes are given by name ({near})") from None
    except OSError as error:
        raise UserError(f"--recipe {path}: cannot be read ({error.strerror}); name a TOML file") from None
    except UnicodeDecodeError:
        raise UserError(f"--recipe {path}: is not UTF-8 text; save it as UTF-8") from None


def _parsed(label: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"--recipe {label}: is not TOML: {reason}") from None


def _check(label: str, tree: Mapping[str, Any]) -> None:
    for section, options in tree.items():
        if section not in SECTIONS:
            raise UserError(f"--recipe {label}: unknown section '{section}'; {did_you_mean(section, (*SECTIONS, BASE))}")
        if not isinstance(options, dict):
            raise UserError(f"--recipe {label}: {section} is a section: put its options under [{section}]")
        for option, value in _leaves(options, section):
            if not is_finite(value):
                raise UserError(f"--recipe {label}: {option}: expected a finite number, got {value!r}")


def _leaves(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


def is_finite(value: Any) -> bool:
    """Whether all numbers in a value are finite."""
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return False
    return True


def _folder() -> Any:
    return files("bench") / "recipes"
