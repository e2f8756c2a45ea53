"""What an archive of results may hold: every path by a pattern, with the most bytes of a file of its kind."""

from __future__ import annotations

import re

MANIFEST = "submission.json"
WEIGHTS = "model.safetensors"
PLUGINS = "plugins"

MOST_FILES = 50_000
MOST_BYTES = 64 * 2**30
"""Of an archive, and of everything in it unpacked."""

_TEXT, _ARRAYS, _WEIGHTS = 64 * 2**20, 2 * 2**30, 16 * 2**30
_KEY, _NAME = r"[\w-]{1,64}", r"\w[\w.-]{0,99}"
_KINDS = (
    (rf"{re.escape(MANIFEST)}|store\.json|requests/{_KEY}\.json|{PLUGINS}/{_NAME}\.py", _TEXT),
    (rf"runs/{_KEY}/(evals/)?{_NAME}\.json", _TEXT),
    (rf"runs/{_KEY}/{re.escape(WEIGHTS)}", _WEIGHTS),
    (rf"runs/{_KEY}/(evals/)?{_NAME}\.(safetensors|npz)", _ARRAYS),
)


def limit_of(path: str) -> int | None:
    """The most bytes of a file at this path, with "/" between its parts; None where an archive holds no such file."""
    return next((limit for pattern, limit in _KINDS if re.fullmatch(pattern, path, re.ASCII)), None)
