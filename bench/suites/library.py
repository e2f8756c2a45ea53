"""Find suites: built-in ones by name, others by file, and those stored in a results folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bench.errors import UserError, did_you_mean
from bench.suites import parts
from bench.suites.suite import Suite

ALL = "all"
SUFFIX = ".toml"
_PAPERS = f"papers{SUFFIX}"
_RESERVED = (ALL, "results", "table", "price")
"""Names that a suite cannot have: --suite all, and the files of the report."""

_EXPECTED = {
    "published": 'a number, "-" (blank in the paper) or "" (no cell)',
    "link": "an address that begins with https://",
    "cite": "a BibTeX key",
}


def names() -> list[str]:
    """Names of all built-in suites: tables, then figures, in the paper's order."""
    found = [path.name for path in _folder().iterdir() if path.name.endswith(SUFFIX) and path.name != _PAPERS]
    return sorted((name.removesuffix(SUFFIX) for name in found), key=lambda name: (name.startswith("figure"), len(name), name))


@cache
def load(name: str) -> Suite:
    """Load a built-in suite by name. Raises UserError for an unknown one."""
    if name not in names():
        raise _unknown(name, ())
    kind = name.rstrip("0123456789")
    tree = tomllib.loads((_folder() / f"{name}{SUFFIX}").read_text("utf-8"))
    return _validated({**tree, "name": name, "label": f"{kind.capitalize()} {name.removeprefix(kind)}"})


def resolve(wanted: Iterable[str], stored: Sequence[Suite] = ()) -> list[Suite]:
    """Load suites by name or file.

    Parameters
    ----------
    wanted : iterable of str
        Names, files (ending in .toml), or "all".
    stored : sequence of Suite
        The suites stored in a results folder, which can be given by name too.

    Raises
    ------
    UserError
        Naming the file or suite.
    """
    found: dict[tuple[str, str], Suite] = {}
    paths: dict[str, Path] = {}
    for name in dict.fromkeys(wanted):
        if name.endswith(SUFFIX):
            path = Path(name)
            other = paths.setdefault(path.stem, path)
            if other.absolute() != path.absolute():
                raise UserError(f"--suite {path}: has the same name as {other}, {path.stem}; rename one of the files")
        found |= {(suite.name, suite.digest): suite for suite in _named(name, stored)}
    return list(found.values())


def from_record(name: str, content: Mapping[str, Any]) -> Suite:
    """A suite stored in a results folder. Raises UserError if it is invalid."""
    return _checked({**content, "name": name, "file": f"{name}{SUFFIX}"})


def _named(name: str, stored: Sequence[Suite]) -> list[Suite]:
    if name == ALL:
        return [*map(load, names()), *stored]
    if name.endswith(SUFFIX):
        return [_read(name)]
    if name in names():
        return [load(name)]
    if own := [suite for suite in stored if suite.name == name]:
        return own
    raise _unknown(name, [suite.name for suite in stored])


def _unknown(name: str, stored: Iterable[str]) -> UserError:
    return UserError(f"--suite {name}: unknown suite; {did_you_mean(name, [*names(), *stored, ALL])} (files end in {SUFFIX})")


def _read(file: str) -> Suite:
    try:
        tree = tomllib.loads(Path(file).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"--suite {file}: no such file; built-in suites are given by name, such as table1") from None
    except OSError as error:
        raise UserError(f"--suite {file}: cannot be read ({error.strerror}); give a TOML file") from None
    except UnicodeDecodeError:
        raise UserError(f"--suite {file}: is not UTF-8; save the file as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"--suite {file}: is not TOML: {reason}") from None
    for key in {"name", "file"} & tree.keys():
        raise UserError(f"--suite {file}: unknown key '{key}'; the name of a suite is that of its file")
    return _checked({**tree, "name": Path(file).stem, "file": file})


def _checked(tree: dict[str, Any]) -> Suite:
    """Validate a suite from a file, whose name must not be taken."""
    name = tree["name"]
    if name in names():
        raise UserError(f"--suite {tree['file']}: {name} is a built-in suite; rename the file")
    if name in _RESERVED:
        raise UserError(f"--suite {tree['file']}: a suite cannot be called {name}; rename the file")
    return _validated({"label": name, **tree})


def _validated(tree: dict[str, Any]) -> Suite:
    where = f"--suite {tree.get('file') or tree['name']}"
    if isinstance(paper := tree.get("paper"), str):
        papers = tomllib.loads((_folder() / _PAPERS).read_text("utf-8"))
        if paper not in papers:
            raise UserError(f"{where}: paper: unknown paper '{paper}' ({did_you_mean(paper, papers)}); write a section [paper]")
        tree = {**tree, "paper": papers[paper]}
    try:
        return Suite.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {_message(tree, error)}") from None


def _message(tree: Mapping[str, Any], error: ValidationError) -> str:
    """The first error, with the row, column or key where it occurs."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    if first["loc"][0] == "name":
        return f"{tree['name']!r} is not a valid suite name; use at most 64 letters, digits, - and _ for the file name"
    where, value = _located(tree, first["loc"]), first.get("input")
    match first["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where}: unknown key; {did_you_mean(str(first['loc'][-1]), _keys_beside(first['loc']))}"
        case "literal_error" if "metric" in first["loc"]:
            return f"{where}: unknown metric {value!r}; {did_you_mean(str(value), get_args(parts.MetricName))}"
    expected = [_EXPECTED[part] for part in first["loc"] if part in _EXPECTED]
    reason = f"expected {expected[0]}" if expected else first["msg"].replace("a valid tuple", "a list")
    return f"{where}: {reason}, got {value!r}"


def _located(tree: Mapping[str, Any], loc: Sequence[int | str]) -> str:
    """Describe the position of an error, with rows and columns by their labels."""
    if loc[0] not in ("rows", "columns") or len(loc) < 2:
        return ".".join(map(str, loc))
    entry = tree[str(loc[0])][loc[1]]
    label = entry.get("label") if isinstance(entry, dict) else None
    shown = " / ".join(map(str, label)) if isinstance(label, list) else label
    where = f"{str(loc[0])[:-1]} {repr(shown) if shown else int(loc[1]) + 1}"
    if loc[2:3] == ("published",) and len(loc) > 3:
        return f"{where}, value {int(loc[3]) + 1} of published"
    return ", ".join([where, *(str(loc[2]) for _ in loc[2:3])])


def _keys_beside(loc: Sequence[int | str]) -> set[str]:
    """The valid keys at the position of an error."""
    sections: dict[str, type[BaseModel]] = {
        "paper": parts.Paper, "base": parts.Coordinates, "columns": parts.Column, "rows": parts.Row, "runs": parts.Coordinates,
        "attacks": parts.AttackVariant, "defenses": parts.DefenseVariant, "unsupported": parts.Unsupported,
        "substitutes": parts.Substitutes,
    }  # fmt: skip
    model = Suite if len(loc) == 1 else sections[str(loc[0])]
    return set(model.model_fields) - {"name", "file"}


def _folder() -> Any:
    return files("bench") / "suites"
