"""Options of `bench run` in a TOML file: read for --config, and written beside each request."""

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
from bench.interface.values import data_and_root

_WHAT = (
    "suite", "attack", "defense", "data", "data_root", "downstream_root", "evaluator", "model", "pretrained", "recipe", "seeds",
    "set", "plugin", "precision", "controls",
)  # fmt: skip
"""The options that say what is run; the others say where and how."""
_ARMS = ("attack", "defense")
"""What a suite says itself."""


def load_config(file: str | PathLike[str]) -> dict[str, Any]:
    """Read options of `bench.run` from a TOML file.

    Names are those of the command line, with hyphens or underscores. `set` is a list of ``PATH=VALUE`` or tables of options;
    `recipe` a name, a file, or the sections of a recipe. Paths are relative to the folder that the command runs in.

    Parameters
    ----------
    file : str or path
        For example ``experiment.toml``, or ``results/requests/KEY.toml``, which `bench.run` wrote.

    Returns
    -------
    dict of str to object
        Keyword arguments of `bench.run`, checked: ``bench.run(**bench.load_config("experiment.toml"))``.

    Raises
    ------
    UserError
        Where the file cannot be read or is not TOML, or an option in it is unknown or has a bad value; it names the file.
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


def config_text(asked: RunOptions) -> str:
    """The file that asks for the same cells, from any folder: files by absolute path, a recipe of a file by what it says."""
    data, root = data_and_root(asked.data, asked.data_root) if asked.data else (None, asked.data_root)
    told = {
        **{name: getattr(asked, name) for name in _WHAT if not (asked.suite and name in _ARMS)},
        "suite": [_place(name) for name in asked.suite],
        "data": data,
        "data_root": _place(root) if root else None,
        "downstream_root": _place(asked.downstream_root) if asked.downstream_root else None,
        "pretrained": _place(asked.pretrained) if asked.pretrained else None,
        "plugin": [_place(file) for file in asked.plugin],
        "recipe": _recipe(asked.recipe),
    }
    options = {name: value for name, value in told.items() if value not in (None, (), [], False)}
    about = f"# The options of a run of bench {__version__}: `bench run --config FILE` asks for the same cells.\n"
    return f"{about}{toml_text(options)}\n"


def _place(path: str | Path) -> str:
    """Absolute where there is such a file or folder; the name of a suite or of a data set on a hub stays as it is."""
    return str(Path(path).absolute()) if Path(path).exists() else str(path)


def _recipe(asked: str | recipe.Recipe | None) -> str | Mapping[str, Any] | None:
    if asked is None or (isinstance(asked, str) and not asked.endswith(recipe.SUFFIX)):
        return asked
    found = recipe.load(asked)
    return {**({recipe.NAME: found.name} if found.name else {}), **found.tree}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"--config {file}: cannot be read ({error.strerror}); name a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"--config {file}: is not TOML: {error}") from None
