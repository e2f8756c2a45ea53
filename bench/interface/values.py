"""Parsers of option values: names, seeds, data sets with their folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.errors import UserError


def parse_names(values: object) -> list[str]:
    """Names from one or several comma-separated lists, without duplicates. Raises UserError for anything else."""
    given = as_strings(values)
    if given is None:
        raise UserError(f"{values!r}: expected a name or a list of names")
    return list(dict.fromkeys(part.strip() for value in given for part in value.split(",") if part.strip()))


def as_strings(values: object) -> list[str] | None:
    """One or several strings as a list; None for anything else."""
    found = [values] if isinstance(values, str) else list(values) if isinstance(values, Iterable) else [None]
    return [text for text in found if isinstance(text, str)] if all(isinstance(text, str) for text in found) else None


def require_names(option: str, values: object) -> list[str]:
    """Names of an option that needs at least one. Raises UserError if there is none."""
    found = parse_names(values)
    if not found:
        raise UserError(f"{option} is empty: give a name or a comma-separated list")
    return found


def split_data_root(data: str, root: Path | None) -> tuple[str, Path | None]:
    """Name and folder of a data set given as NAME or NAME:FOLDER. Raises UserError if the folder is given twice."""
    name, colon, folder = data.partition(":")
    if not colon:
        return name, root
    if not folder or root is not None:
        raise UserError(f"--data {data}: give the folder of {name} once, here or with --data-root")
    return name, Path(folder)


def parse_seeds(values: object) -> list[int]:
    """Seeds from one or several integers or a comma-separated list. Raises UserError for anything else and negative ones."""
    given = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    text = ",".join(map(str, given))
    try:
        if any(isinstance(value, bool | float) for value in given):
            raise ValueError
        found = [int(name) for name in require_names("--seeds", [str(value) for value in given])]
    except ValueError:
        raise UserError(f"--seeds {text}: expected integers, for example --seeds 0,1,2") from None
    if any(seed < 0 for seed in found):
        raise UserError(f"--seeds {text}: seeds must not be negative")
    return found
