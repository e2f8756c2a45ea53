"""Values of options as people give them: names, seeds, and where data lies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.errors import UserError


def names(values: object) -> list[str]:
    """A name, a comma list or several of either, flattened, without repetitions. Raises UserError for anything else."""
    given = texts(values)
    if given is None:
        raise UserError(f"{values!r}: a name or a list of names is needed")
    return list(dict.fromkeys(part.strip() for value in given for part in value.split(",") if part.strip()))


def texts(values: object) -> list[str] | None:
    """A text or several as a list; None for anything else."""
    found = [values] if isinstance(values, str) else list(values) if isinstance(values, Iterable) else [None]
    return [text for text in found if isinstance(text, str)] if all(isinstance(text, str) for text in found) else None


def some_names(option: str, values: object) -> list[str]:
    """The names of an option that needs one. Raises UserError when there is none."""
    found = names(values)
    if not found:
        raise UserError(f"{option} is empty: give one name or a comma list of them")
    return found


def data_and_root(data: str, root: Path | None) -> tuple[str, Path | None]:
    """NAME and where it lies; NAME:PLACE says both. Raises UserError when the place is given twice."""
    name, colon, place = data.partition(":")
    if not colon:
        return name, root
    if not place or root is not None:
        raise UserError(f"--data {data}: say once where {name} lies, here or with --data-root")
    return name, Path(place)


def seeds(values: object) -> list[int]:
    """Whole numbers, one or several, or a comma list of them. Raises UserError where one is none, or negative."""
    given = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    said = ",".join(map(str, given))
    try:
        if any(isinstance(value, bool | float) for value in given):
            raise ValueError
        found = [int(name) for name in some_names("--seeds", [str(value) for value in given])]
    except ValueError:
        raise UserError(f"--seeds {said}: write whole numbers, for example --seeds 0,1,2") from None
    if any(seed < 0 for seed in found):
        raise UserError(f"--seeds {said}: seeds are not negative")
    return found
