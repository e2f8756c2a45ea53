"""TOML files with the options of `bench run`: read by --config, and written next to each request."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from bench import __version__, recipe
from bench.errors import UserError, did_you_mean
from bench.interface.options import RunOptions
from bench.interface.toml import toml_text
from bench.interface.values import split_data_root

_WHAT = (
    "suite", "attack", "defense", "data", "data_root", "downstream_root", "evaluator", "model", "pretrained", "recipe", "seeds",
    "set", "plugin", "precision", "controls",
)  # fmt: skip
"""The options that determine what is run, as opposed to where and how."""
_ARMS = ("attack", "defense")
"""Options that a suite determines."""


def load_config(file: str | PathLike[str]) -> dict[str, Any]:
    """Read options of `bench.run` from a TOML file.

    Names are those of the command line, with hyphens or underscores. `set` is a list of ``PATH=VALUE`` or tables of options;
    `recipe` a name, a file, or the sections of a recipe. Paths are relative to the working directory.

    Parameters
    ----------
    file : str or path
        For example ``experiment.toml``, or ``results/requests/KEY.toml`` as written by `bench.run`.

    Returns
    -------
    dict of str to object
        Validated keyword arguments of `bench.run`: ``bench.run(**bench.load_config("experiment.toml"))``.

    Raises
    ------
    UserError
        If the file cannot be read or is not TOML, or has an unknown option or a bad value; names the file.
    """
    tree = {name.replace("-", "_"): value for name, value in _read(Path(file)).items()}
    for name in tree:
        if name not in RunOptions.model_fields:
            hint = did_you_mean(name, RunOptions.model_fields)
            raise UserError(f"--config {file}: unknown option '{name}'; {hint}")
    try:
        options = RunOptions.of(tree)
    except UserError as error:
        raise UserError(f"--config {file}: {error}") from None
    return {name: getattr(options, name) for name in tree}


def config_text(options: RunOptions) -> str:
    """TOML that requests the same cells from any working directory: absolute paths, and the content of a recipe file."""
    data, root = split_data_root(options.data, options.data_root) if options.data else (None, options.data_root)
    values = {
        **{name: getattr(options, name) for name in _WHAT if not (options.suite and name in _ARMS)},
        "suite": [_absolute(name) for name in options.suite],
        "data": data,
        "data_root": _absolute(root) if root else None,
        "downstream_root": _absolute(options.downstream_root) if options.downstream_root else None,
        "pretrained": _absolute(options.pretrained) if options.pretrained else None,
        "plugin": [_absolute(file) for file in options.plugin],
        "recipe": _recipe(options.recipe),
    }
    given = {name: value for name, value in values.items() if value not in (None, (), [], False)}
    header = f"# Options of a run of bench {__version__}; `bench run --config FILE` requests the same cells.\n"
    return f"{header}{toml_text(given)}\n"


def _absolute(path: str | Path) -> str:
    """The absolute path if it exists; the name of a suite, or of a data set on a hub, is kept."""
    return str(Path(path).absolute()) if Path(path).exists() else str(path)


def _recipe(value: str | recipe.Recipe | None) -> str | Mapping[str, Any] | None:
    if value is None or (isinstance(value, str) and not value.endswith(recipe.SUFFIX)):
        return value
    found = recipe.load(value)
    return {**({recipe.NAME: found.name} if found.name else {}), **found.tree}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"--config {file}: cannot be read ({error.strerror}); name a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"--config {file}: is not TOML: {error}") from None
