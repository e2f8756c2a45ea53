"""Provenance of a record: commit, versions, machine."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench import __version__
from bench.matrix.schema import Provenance


def provenance(device: torch.device, processes: int, command: Sequence[str], started: str, **more: Any) -> Provenance:
    """Of a record that is finished now; `more` are further fields."""
    return Provenance(
        bench=__version__,
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        machine=f"{platform.system()} {platform.machine()}, {_processor()}",
        processes=processes,
        threads=torch.get_num_threads(),
        device=device.type,
        command=" ".join(["bench", *command]),
        started=started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **more,
    )


@cache
def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with a + if it is dirty; None outside a checkout."""
    if not _git("ls-files", "__init__.py"):
        return None
    return _git("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
