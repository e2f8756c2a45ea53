"""Why an archive is refused."""

from __future__ import annotations

from bench.errors import UserError


class Flaw(UserError):
    """What is wrong with a file of an archive, or of a folder that is to become one, on one line of printable text."""

    def __init__(self, file: str, reason: str) -> None:
        text = "".join(letter if letter.isprintable() else " " for letter in f"{file}: {reason}")
        super().__init__(" ".join(text.split()))
