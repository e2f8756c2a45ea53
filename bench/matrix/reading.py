"""Reads a JSON record, or says what is wrong with it. Every text of a record can be printed, every number is finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from bench.text import encodable

MAX_RECORD = 512 * 2**20
"""Bytes of a JSON file; a longer one counts as none."""
DEEPEST = 40
"""Tables and lists within each other."""
LARGEST = 2**63

Value = TypeVar("Value")


class Damaged(Exception):
    """A file that is no record: why, and where in it, as the names and positions that lead there."""

    def __init__(self, why: str, *where: object) -> None:
        super().__init__(why)
        self.why = why
        self.where = where

    def __str__(self) -> str:
        place = encodable(".".join(map(str, self.where)))
        return f"{place}: {self.why}" if place else self.why


def read_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None where there is no such file; lone surrogates in its text are replaced.

    Raises Damaged for another file, also one with numbers that are not finite or beyond 64 bits, or nested too deep, and
    OSError for one that the system does not let us read.
    """
    try:
        if path.stat().st_size > MAX_RECORD:
            raise Damaged(f"larger than {MAX_RECORD:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise Damaged("a folder, not a file") from None
    except ValueError as error:
        raise Damaged(f"no whole JSON file ({error})") from None
    except RecursionError:
        raise Damaged("nested too deep") from None
    if not isinstance(value, dict):
        raise Damaged("no JSON object")
    return _sound(value, DEEPEST)


def _sound(value: Value, depth: int) -> Value:
    """The value with text that can be encoded."""
    if isinstance(value, str):
        return encodable(value)  # type: ignore[return-value]
    if isinstance(value, dict):
        return {encodable(name): _part(name, item, depth) for name, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_part(at, item, depth) for at, item in enumerate(value)]  # type: ignore[return-value]
    if isinstance(value, float) and not math.isfinite(value):
        raise Damaged("a number that is not finite")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise Damaged("a number beyond 64 bits")
    return value


def _part(name: object, value: Value, depth: int) -> Value:
    if depth == 0:
        raise Damaged("nested too deep")
    try:
        return _sound(value, depth - 1)
    except Damaged as damage:
        raise Damaged(damage.why, name, *damage.where) from None
