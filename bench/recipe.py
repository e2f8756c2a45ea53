"""Recipes: the settings of a kind of run as TOML, those of `bench/recipes` and of plugins by name and anybody's by file."""

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
"""The recipe of a data set that has none of its own."""
SUFFIX = ".toml"
PRETRAINED = "model.pretrained"
"""The option of --set that --pretrained is short for."""


@dataclass(frozen=True)
class Recipe:
    """`name` as --recipe takes it; `layers` the names and contents, as JSON, of its files, each after its base."""

    name: str
    layers: tuple[tuple[str, str], ...]

    @cached_property
    def tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for _, content in self.layers:
            tree = merged(tree, json.loads(content))
        return tree

    def giver(self, section: str, option: str) -> str:
        """The file that has the last word on an option, there or in a section around it; the recipe's own where none has it."""
        return next((name for name, content in reversed(self.layers) if holds(json.loads(content), section, option)), self.name)


def names() -> list[str]:
    return sorted({*_own_names(), *shipped()})


def _own_names() -> list[str]:
    return [file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX)]


def shipped() -> dict[str, Path]:
    """The recipes that plugins bring along, by name. Raises UserError where two have one name, or one that the project has."""
    found: dict[str, Path] = {}
    for entry in (entry for registry in KINDS.values() for entry in registry):
        for file in vars(entry.plugin).get("recipes", ()):
            path = Path(str(inspect.getsourcefile(entry.plugin))).with_name(file)
            name = path.name.removesuffix(SUFFIX)
            if name in _own_names() or found.get(name, path) != path:
                raise UserError(f"{entry.origin}: there is another recipe '{name}'; rename {path}")
            found[name] = path
    return found


def origin(name: str) -> str:
    """Where a recipe that goes by name comes from."""
    return str(shipped().get(name, "built-in"))


def of_data(data: str) -> Recipe:
    """The recipe of a data set's own name, or the published one."""
    return load(data if data in names() else PUBLISHED)


def load(name: str | Recipe) -> Recipe:
    """A recipe by name or, ending in .toml, by file. Raises UserError that names the file."""
    return name if isinstance(name, Recipe) else Recipe(name, tuple(_layers(name, Path(), ())))


def inline(tree: Mapping[str, Any]) -> Recipe:
    """A recipe from its sections; `name`, which may lack, is what reports call it. Raises UserError as `load` does."""
    rest = dict(tree)
    name = str(rest.pop(NAME, ""))
    return Recipe(name, tuple(_checked(name or "in place", rest, Path(), ())))


def summary(name: str) -> str:
    """The first line of a recipe that goes by name, where it is a comment."""
    path = shipped().get(name)
    first = (_text(path) if path else _own_text(name)).partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def holds(tree: Mapping[str, Any], section: str, option: str) -> bool:
    """Whether a tree has an option in a section such as attack.badnet, or in one around it."""
    for part in section.split("."):
        tree = tree.get(part, {})
        if not isinstance(tree, Mapping):
            return False
        if option in tree:
            return True
    return False


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A new tree with the values of both, those of `above` first."""
    both = {key: merged(value, {}) if isinstance(value, dict) else value for key, value in below.items()}
    for key, value in above.items():
        known = both.get(key)
        both[key] = merged(known if isinstance(known, dict) else {}, value) if isinstance(value, dict) else value
    return both


def _layers(name: str, folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The files of a recipe, its base first; a path is relative to the folder of the file that names it."""
    path = Path(os.path.normpath(folder / name)) if name.endswith(SUFFIX) else shipped().get(name)
    said = str(path) if name.endswith(SUFFIX) else name
    if said in above:
        raise UserError(f"--recipe {above[0]}: its bases go in a circle: {' -> '.join([*above, said])}")
    text = _text(path) if path else _own_text(name, above)
    yield from _checked(said, _parsed(said, text), path.parent if path else Path(), above)


def _checked(said: str, tree: dict[str, Any], folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What a file in `folder` holds, after its base."""
    base = tree.pop(BASE, None)
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f'--recipe {said}: {BASE}: the name or file of a recipe is needed, for example {BASE} = "small"')
        yield from _layers(base, folder, (*above, said))
    _check(said, tree)
    yield said, json.dumps(tree, default=str)


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
        raise UserError(f"--recipe {path}: no such file; recipes of the project go by name ({near})") from None
    except OSError as error:
        raise UserError(f"--recipe {path}: cannot be read ({error.strerror}); name a TOML file") from None
    except UnicodeDecodeError:
        raise UserError(f"--recipe {path}: is not text in UTF-8; save it as that") from None


def _parsed(said: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"--recipe {said}: is not TOML: {reason}") from None


def _check(said: str, tree: Mapping[str, Any]) -> None:
    for section, options in tree.items():
        if section not in SECTIONS:
            raise UserError(f"--recipe {said}: unknown section '{section}'; {did_you_mean(section, (*SECTIONS, BASE))}")
        if not isinstance(options, dict):
            raise UserError(f"--recipe {said}: {section} is a section: write its options under [{section}]")
        for option, value in _leaves(options, section):
            if not is_finite(value):
                raise UserError(f"--recipe {said}: {option}: a finite number is needed, got {value!r}")


def _leaves(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.{name}")
        else:
            yield f"{path}.{name}", value


def is_finite(value: Any) -> bool:
    """Whether JSON has a word for every number in it."""
    try:
        json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return False
    return True


def _folder() -> Any:
    return files("bench") / "recipes"
