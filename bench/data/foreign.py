"""Entries of JSON that others wrote. A value that is not what it should be reads as None."""

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

MEND = "mend or download the file again"


def text(value: Any) -> str | None:
    return encodable(value) if isinstance(value, str) else None


def identifier(value: Any) -> int | str | None:
    """A whole number, however it is written, or another text."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else encodable(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def amount(value: Any) -> float | None:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        return None
    return float(value)


def rows(
    file: Path, table: Any, key: str, fields: Mapping[str, Callable[[Any], Any]], faults: Faults
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list in an annotation file with a name for each; those whose `fields` are not as they should be are
    faults. The fields have the values that their functions give.
    """
    found = table.get(key) if isinstance(table, dict) else None
    if not isinstance(found, list):
        raise UserError(f"{file} has no list '{key}': it is not in COCO's format")
    for number, row in enumerate(found):
        where = f"{file}: {key}[{number}]"
        if not isinstance(row, dict):
            faults.note("malformed", f"{where} is not an object; {MEND}")
            continue
        values = {name: parse(row.get(name)) for name, parse in fields.items()}
        wrong = next((name for name, value in values.items() if value is None), None)
        if wrong is None:
            yield where, row | values
        else:
            problem = f"is {json.dumps(row[wrong])[:80]}" if wrong in row else "is missing"
            faults.note("malformed", f"{where}: the field '{wrong}' {problem}; {MEND}")


def entries(stream: BufferedReader, path: str) -> Iterator[Any]:
    """The entries of a list in JSON at an ijson path. The fast parser stops at the second half of a surrogate pair that has no
    first.
    """
    done = 0
    try:
        for entry in ijson.items(stream, path, use_float=True):
            yield entry
            done += 1
    except UnicodeDecodeError:
        stream.seek(0)
        yield from islice(ijson.get_backend("python").items(stream, path, use_float=True), done, None)
