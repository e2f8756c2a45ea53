"""Seeded mutations of the files of a results folder: one file, one random node of it, something that no writer would write."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Place = tuple[Any, ...]
GONE = object()
HUGE = "1" + "0" * 400
RAW = {"@nan@": "NaN", "@infinity@": "-Infinity", "@overflow@": "1e400", "@huge@": HUGE, "@digits@": "1" + "0" * 5000}
"""Stands in the value for what Python would not write."""
SURROGATES = ("\ud800", "a \udfff b", "\udc80\ud83d")


KINDS = {"run.json": 6, "evals": 6, "requests": 6, "failure.json": 2, "locks": 2, "poison.json": 1, "store.json": 1}
"""Names of files or their folders, with how often they are chosen."""


def _deep(levels: int, table: bool) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value} if table else [value]
    return value


def values(random_: random.Random, old: Any) -> Any:
    """What stands in the node instead of `old`."""
    choices: list[Any] = [
        7, -1, 0, 1.5, -2.5, 1e300, 5e-324, 2**63 - 1, -(2**63), 10**18, True, False, None, "", "x", " ", "\0", "../../x",
        "nan", "x" * 5000, "<b>&", "{{ 7 }}", "é🙂", [], {}, [7], ["x"], [None], [[]], {"x": 7}, {"": None}, {"name": 7},
        *RAW, *SURROGATES, *SURROGATES, [SURROGATES[0]], {SURROGATES[1]: SURROGATES[2]}, GONE,
        _deep(200, table=False), _deep(30, table=True), _deep(900, table=True),
    ]  # fmt: skip
    if isinstance(old, list):
        choices += 4 * [old[1:], [*old, *old[:1]], [*old, None], old[:-1]]
    if isinstance(old, str):
        choices += 4 * [old + SURROGATES[0], old.upper(), f"{old}/../{old}"]
    if isinstance(old, int | float):
        choices += 4 * [-old, str(old), old + 0.5, old * 1e15, [old]]
    if isinstance(old, dict):
        choices += 4 * [{**old, SURROGATES[0]: 1}, {**old, "x": "@nan@"}, list(old.values()), {key: {} for key in old}]
    return random_.choice(choices)


def nodes(value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every node with its place; of a long list the ends."""
    yield at, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if not isinstance(value, list) or name in (0, len(value) - 1):
            yield from nodes(item, (*at, name))


def replaced(value: Any, at: Place, new: Any) -> Any:
    """A copy with another value at the place."""
    if not at:
        return {} if new is GONE else new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if new is GONE and len(at) == 1:
        del copy[at[0]]
    else:
        copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


def mutate(root: Path, seed: int, *, spare: str) -> tuple[Path, str, str]:
    """Damage one file below the root, not those of the run `spare`: the file, its content before, what was done to it."""
    random_ = random.Random(seed)
    files = sorted(path for path in root.rglob("*.json") if spare not in path.parts)
    kind = random_.choices(list(KINDS), list(KINDS.values()))[0]
    path = random_.choice([path for path in files if kind in (path.parent.name, path.name)])
    whole = path.read_text(encoding="utf-8")
    if random_.random() < 0.1:
        other = random_.choice(files)
        path.write_text(other.read_text(encoding="utf-8"), encoding="utf-8")
        return path, whole, f"the content of {other}"
    record = json.loads(whole)
    found = list(nodes(record))
    depth = random_.choice(sorted({len(at) for at, _ in found}))
    place, old = random_.choice([each for each in found if len(each[0]) == depth])
    new = values(random_, old)
    text = json.dumps(replaced(record, place, new))
    for mark, raw in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    path.write_text(text, encoding="utf-8")
    return path, whole, f"{'.'.join(map(str, place))} = {'gone' if new is GONE else repr(new)[:60]}"
