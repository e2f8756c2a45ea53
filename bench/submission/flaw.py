"""Why an archive is refused."""

from __future__ import annotations

from bench.errors import UserError


class Flaw(UserError):
    """What is wrong with a file of an archive, or of a folder that is to become one."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
