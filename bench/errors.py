"""Errors that a user can fix, shown as one sentence; any other keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the file, row or option, and what to do; the command exits with code 2."""


class Stopped(Exception):
    """Signal `number` ended the run; the same command resumes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an error message: the closest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(names)}" if names else "there is none"
