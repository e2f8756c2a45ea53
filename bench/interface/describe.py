"""Descriptions of plugins and recipes."""

from __future__ import annotations

import inspect
import textwrap
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench import recipe, references
from bench.api import Evaluator
from bench.errors import UserError
from bench.interface.toml import toml_text, toml_value
from bench.registry import KINDS, Entry, near
from bench.reports.measures import point_for
from bench.reports.records import Run

_WIDTH = 120
_SECTIONS = {"attack": "attack", "defense": "defense", "evaluator": "evaluator", "data set": "data"}
"""The section of each kind's options in --set."""


def describe(name: str, runs: Sequence[Run] = ()) -> list[str]:
    """A description of every plugin and recipe of that name.

    Parameters
    ----------
    name : str
    runs : sequence of Run
        Runs that the cost of a defense is computed from.

    Raises
    ------
    UserError
        If nothing has that name.
    """
    found = [describe_plugin(kind, name, runs) for kind, registry in KINDS.items() if name in registry.names()]
    if name in recipe.names():
        found.append("\n\n".join(_recipe(name)))
    if not found:
        every = [*(each for registry in KINDS.values() for each in registry.names()), *recipe.names()]
        raise UserError(f"nothing is named '{name}'; {near(name, every)}")
    return found


def describe_plugin(kind: str, name: str, runs: Sequence[Run] = ()) -> str:
    """The description of a plugin of a kind: attacks, defenses, evaluators or datasets."""
    registry = KINDS[kind]
    return "\n\n".join(_plugin(registry.kind, registry[name], runs))


def _plugin(kind: str, entry: Entry[Any], runs: Sequence[Run]) -> Iterator[str]:
    plugin = entry.plugin
    first, _, rest = inspect.cleandoc(vars(plugin).get("__doc__") or "No description.").partition("\n")
    yield f"{plugin.name}: {kind}, version {plugin.version} [{entry.origin}]\n{first}"
    if rest.strip():
        yield rest.strip()
    papers = [textwrap.fill(paper.line(), _WIDTH, subsequent_indent="  ") for paper in references.for_plugin(plugin)]
    yield "\n".join(["Paper:", *papers]) if papers else "Paper: none cited"
    options = list(_options(plugin.Params))
    own = "" if kind == "data set" else f"{plugin.name}."
    if options:
        yield f"Options (--set {_SECTIONS[kind]}.{own}OPTION=VALUE):\n" + _table(options)
    if issubclass(plugin, Evaluator):
        rows = [(each.name, each.unit, f"{each.better} is better", each.description) for each in plugin.metrics]
        yield "Metrics:\n" + _table(rows)
    if cost := _cost(plugin.name, runs) if kind == "defense" else "":
        yield cost


def _recipe(name: str) -> Iterator[str]:
    yield f"{name}: recipe\n{recipe.summary(name)}"
    yield toml_text(recipe.load(name).tree).strip()


def _options(params: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and description of each option."""
    for name, field in params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _options(field.annotation, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None else "" if field.is_required() else _value(default)
        yield prefix + name, _kind(field), shown, field.description or ""


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return toml_value(value) if isinstance(value, str | int | float | Sequence) else str(value)


def _kind(field: FieldInfo) -> str:
    """The type with its bounds, such as "float >= 0"."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {value:g}"
        for limit in field.metadata
        for name, sign in signs.items()
        if (value := getattr(limit, name, None)) is not None
    ]
    return " ".join([_type(field.annotation), ", ".join(bounds)]).strip()


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else _type(part) for part in get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns, of which the last is wrapped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        head = "  " + "".join(f"{text:{width}}  " for text, width in zip(row, widths, strict=False))
        width = max(_WIDTH, len(head) + 40)
        lines.append(textwrap.fill(row[-1], width, initial_indent=head, subsequent_indent=" " * len(head)) or head.rstrip())
    return "\n".join(lines)


def _cost(defense: str, runs: Sequence[Run]) -> str:
    """The time of a defense's cells relative to plain CLIP on the same poison; empty without such a pair of cells."""
    plain = {_pair(run): run for run in runs if run.defense == "clip"}
    points = [point_for(run, plain.get(_pair(run)), "time.increase", "") for run in runs if run.defense == defense]
    ratios = [1 + point.value for point in points if not isinstance(point, tuple)]
    if not ratios:
        return ""
    spread = f", {min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
    cells = "1 cell" if len(ratios) == 1 else f"{len(ratios)} cells"
    return f"Cost: {fmean(ratios):.2f} times the time of plain CLIP (mean of {cells}{spread})"


def _pair(run: Run) -> tuple[str, str, int]:
    return run.setting, run.spec.attack.identity if run.spec.attack else "", run.seed


def runs_in_folder(folder: Path | None) -> list[Run]:
    """The runs of a results folder; none for None."""
    from bench.matrix.store import Store
    from bench.reports.records import load_runs

    return load_runs(Store.open(folder)) if folder else []
