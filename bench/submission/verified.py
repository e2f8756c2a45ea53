"""What was verified of a folder that `bench verify` wrote: verified.json in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.disk import atomic_write
from bench.errors import UserError

FILE = "verified.json"

Level = Literal["claimed", "consistent", "measured again", "trained again"]
"""How far a number is verified, from least to most.

claimed: its record, key and request fit each other. consistent: the code here also makes the same key, data set and poison.
measured again: the weights in the archive give it. trained again: so does a new training.
"""
LEVELS: tuple[Level, ...] = ("claimed", "consistent", "measured again", "trained again")


class Verified(BaseModel):
    """verified.json: name and sha256 of the archive, and the level of each run by its key."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    archive: str
    sha256: str
    levels: dict[str, Level]


def write_verified(folder: Path, verified: Verified) -> None:
    with atomic_write(folder / FILE) as stream:
        stream.write((verified.model_dump_json(indent=1) + "\n").encode())


def read_verified(folder: Path) -> Verified | None:
    """What was verified of a folder; None for one that no archive was unpacked to. Raises UserError for a damaged file."""
    file = folder / FILE
    try:
        return Verified.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{file}: damaged ({str(error).partition(chr(10))[0]}); verify the archive again") from None
