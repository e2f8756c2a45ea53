"""Entries of annotation files in JSON, checked field by field. A parser gives None for a value that is not valid."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

import ijson

from bench.data.files import Faults
from bench.errors import UserError
from bench.text import encodable

REMEDY = "fix the file or download it again"


def text(value: Any) -> str | None:
    """A string that UTF-8 can encode."""
    return encodable(value) if isinstance(value, str) else None


def identifier(value: Any) -> int | str | None:
    """An integer, even one written as a string or as a float, or any other string."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else encodable(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def amount(value: Any) -> float | None:
    """A finite, non-negative number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        return None
    return float(value)


def rows(
    file: Path, table: Any, key: str, fields: Mapping[str, Callable[[Any], Any]], faults: Faults
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the valid entries of the list `table[key]`, each with a description of its position for error messages.

    Parameters
    ----------
    file : Path
        The file that `table` comes from.
    table : Any
        Its content.
    key : str
        Name of the list.
    fields : mapping of str to callable
        A parser for each required field; its result replaces the field's value.
    faults : Faults
        Notes the entries with a missing or invalid field, which are left out.

    Raises
    ------
    UserError
        If there is no such list; and whatever `faults` raises.
    """
    entries = table.get(key) if isinstance(table, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{file} has no list '{key}': it is not in COCO's format")
    for number, row in enumerate(entries):
        where = f"{file}: {key}[{number}]"
        if not isinstance(row, dict):
            faults.note("malformed", f"{where} is not an object; {REMEDY}")
            continue
        values = {name: parse(row.get(name)) for name, parse in fields.items()}
        wrong = next((name for name, value in values.items() if value is None), None)
        if wrong is None:
            yield where, row | values
        else:
            problem = f"is {json.dumps(row[wrong])[:80]}" if wrong in row else "is missing"
            faults.note("malformed", f"{where}: the field '{wrong}' {problem}; {REMEDY}")


def entries(stream: BufferedReader, path: str) -> Iterator[Any]:
    """Yield the entries of a JSON list at an ijson path.

    The fast parser fails at a lone low surrogate; the Python one goes on from there.
    """
    done = 0
    try:
        for entry in ijson.items(stream, path, use_float=True):
            yield entry
            done += 1
    except UnicodeDecodeError:
        stream.seek(0)
        yield from islice(ijson.get_backend("python").items(stream, path, use_float=True), done, None)
