"""The manifest of an archive: the sha256 of every other file in it, and where it was made.

Whoever changes a file can write a manifest that fits: it shows damage on the way, not intent.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import __version__
from bench.matrix.reading import Damaged, read_object
from bench.submission.flaw import Flaw
from bench.submission.layout import MANIFEST

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Environment(BaseModel):
    """Where an archive was made. `instructions` is a digest of what the CPU can do, empty where it is not known."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    python: str
    platform: str
    instructions: str
    packages: dict[str, str]


class Manifest(BaseModel):
    """submission.json"""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    format: Literal[1]
    bench: str
    environment: Environment
    files: dict[str, Sha256]


def manifest_text(files: Mapping[str, Path | bytes]) -> bytes:
    """The manifest of these files, as submission.json holds it."""
    found = Manifest(
        format=1,
        bench=__version__,
        environment=environment(),
        files={path: sha256(content) for path, content in sorted(files.items())},
    )
    return (json.dumps(found.model_dump(), indent=1) + "\n").encode()


def check_manifest(root: Path) -> Manifest:
    """The manifest of an unpacked archive. Raises Flaw unless it is of exactly the files that are there."""
    try:
        content = read_object(root / MANIFEST)
        if content is None:
            raise Flaw(MANIFEST, "missing; `bench submit` makes archives that have it")
        manifest = Manifest.model_validate(content)
    except Damaged as damage:
        raise Flaw(MANIFEST, str(damage)) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise Flaw(MANIFEST, f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
    present = {str(path.relative_to(root).as_posix()) for path in root.rglob("*") if path.is_file()} - {MANIFEST}
    for path in sorted(present ^ manifest.files.keys()):
        raise Flaw(path[:200], f"in the archive, but not in {MANIFEST}" if path in present else f"missing, but in {MANIFEST}")
    for path, wanted in sorted(manifest.files.items()):
        if sha256(root / path) != wanted:
            raise Flaw(path, f"its sha256 is not that in {MANIFEST}")
    return manifest


def sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def environment() -> Environment:
    """Of this machine: Python, operating system, instruction sets, and all installed packages."""
    found: dict[str, Any] = {str(each.metadata["Name"]): each.version for each in distributions()}
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        instructions=_instructions(),
        packages=dict(sorted(found.items())),
    )


def _instructions() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sha256(" ".join(sorted(flags)).encode())[:16] if flags else ""
