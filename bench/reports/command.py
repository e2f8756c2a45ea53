"""The command that reruns a cell."""

from __future__ import annotations

import json
import shlex
import tomllib
from typing import Any

from bench.reports.labels import flatten
from bench.reports.records import Run

EMBEDDED = ("scenes",)
"""Data sets that need no folder."""


def command_of(run: Run) -> list[str]:
    """`bench run` with all parameters of a run, quoted for a shell: a list with one item for each option.

    A model trained elsewhere has `bench evaluate`. Null parameters are omitted, since TOML has no null and they are defaults of
    the plugin or recipe.
    """
    options: list[tuple[str, ...]] = [("--data", run.data)]
    if run.data not in EMBEDDED:
        options.append(("--data-root", "DIR"))
    if any(evaluation.record and evaluation.record.downstream for evaluation in run.evaluations):
        options.append(("--downstream-root", "DIR"))
    if run.recipe:
        options.append(("--recipe", run.recipe))
    options += [("--model", run.model), ("--attack", run.attack)]
    if run.weights:
        options.append(("--pretrained", run.given or "FILE"))
    if run.external:
        options += [("--weights", _checkpoint(run)), ("--seed", str(run.seed))]
    else:
        options += [("--defense", run.beside.name if run.beside else run.defense), ("--seeds", str(run.seed))]
    if run.beside:
        options.append(("--controls",))
    for name, value in sorted(_options(run).items()):
        if value is not None and value != {}:
            options.append(("--set", f"{name}={_toml_or_text(value)}"))
    return ["bench evaluate" if run.external else "bench run", *(shlex.join(option) for option in options)]


def _checkpoint(run: Run) -> str:
    return str(run.spec.defense.params.dump().get("checkpoint") or "FILE") if run.spec.defense else "FILE"


def foreign_plugins(run: Run) -> list[str]:
    """Names of the cell's plugins that are not built in."""
    return [plugin.name for plugin in (run.spec.data, run.spec.attack, run.spec.defense) if plugin and plugin.source]


def _options(run: Run) -> dict[str, Any]:
    options = {f"train.{key}": value for key, value in flatten(run.spec.train.dump()).items()}
    defense = None if run.external else run.beside or run.spec.defense
    for part, plugin in (("attack", run.spec.attack), ("defense", defense)):
        if plugin:
            options |= {f"{part}.{plugin.name}.{key}": value for key, value in flatten(plugin.params.dump()).items()}
    if run.spec.data:
        options |= {f"data.{key}": value for key, value in flatten(run.spec.data.params.dump()).items()}
    return options


def _toml_or_text(value: Any) -> str:
    """A value as --set parses it: TOML, or plain text if that is not valid TOML."""
    if isinstance(value, str):
        try:
            tomllib.loads(f"value = {value}")
        except (ValueError, RecursionError):
            return value
    return _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value)
