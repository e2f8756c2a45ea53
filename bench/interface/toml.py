"""Writes TOML, which the standard library only parses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError

_WIDTH = 90


def toml_value(value: Any) -> str:
    """A value on one line. Raises UserError for a type that TOML does not have."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise UserError(f"{value!r}: expected a string, number, boolean, list or table")


def toml_text(tree: Mapping[str, Any]) -> str:
    """A TOML document; long lists have one item per line."""
    return "\n".join(_table(tree, ()))


def _table(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in tree.items() if isinstance(value, Mapping) and value}
    for key, value in tree.items():
        if key not in inner:
            yield f"{_key(key)} = {_lines(value)}"
    for key, value in inner.items():
        if any(not isinstance(item, Mapping) or not item for item in value.values()):
            yield f"\n[{'.'.join(map(_key, (*path, key)))}]"
        yield from _table(value, (*path, key))


def _lines(value: Any) -> str:
    line = toml_value(value)
    if len(line) < _WIDTH or isinstance(value, str) or not isinstance(value, Sequence):
        return line
    return "[\n" + "".join(f"    {toml_value(item)},\n" for item in value) + "]"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else toml_value(key)
