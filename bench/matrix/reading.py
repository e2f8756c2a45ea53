"""Reads and sanitises JSON records: every string can be encoded, every number is finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from bench.text import encodable

MAX_BYTES = 512 * 2**20
"""Largest JSON file that is read."""
MAX_DEPTH = 40
"""Deepest nesting of objects and lists."""
MAX_INTEGER = 2**63

Value = TypeVar("Value")


class Damaged(Exception):
    """A file that is not a valid record: the reason, and the path of keys and positions to the faulty value."""

    def __init__(self, reason: str, *where: object) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        path = encodable(".".join(map(str, self.where)))
        return f"{path}: {self.reason}" if path else self.reason


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing. Lone surrogates in strings are replaced.

    Raises
    ------
    Damaged
        If the file is not a JSON object, or has numbers that are not finite or exceed 64 bits, or is nested too deep.
    OSError
        If the file cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Damaged(f"larger than {MAX_BYTES:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise Damaged("a folder, not a file") from None
    except ValueError as error:
        raise Damaged(f"not valid JSON ({error})") from None
    except RecursionError:
        raise Damaged("nested too deep") from None
    if not isinstance(value, dict):
        raise Damaged("not a JSON object")
    return _sanitised(value, MAX_DEPTH)


def _sanitised(value: Value, depth: int) -> Value:
    """The value with strings that can be encoded. Raises Damaged for a number out of range."""
    if isinstance(value, str):
        return encodable(value)  # type: ignore[return-value]
    if isinstance(value, dict):
        return {encodable(name): _part(name, item, depth) for name, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_part(at, item, depth) for at, item in enumerate(value)]  # type: ignore[return-value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Damaged("not a finite number")
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise Damaged("a number beyond 64 bits")
    return value


def _part(name: object, value: Value, depth: int) -> Value:
    if depth == 0:
        raise Damaged("nested too deep")
    try:
        return _sanitised(value, depth - 1)
    except Damaged as damage:
        raise Damaged(damage.reason, name, *damage.where) from None
