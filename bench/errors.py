"""Errors that a user can mend, told in one sentence; everything else keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message names the file, row or option and what to do. The command exits with code 2."""


class Stopped(Exception):
    """A signal, of this number, ended the run; the same command goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to append to an error: the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(names)}" if names else "none is known"
