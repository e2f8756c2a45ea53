"""What the site offers for download: tables as CSV, and the archives themselves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.leaderboard.settings import Row, Setting
from bench.reports.frames import as_csv
from bench.reports.measures import UTILITY
from bench.submission.manifest import sha256

FOLDER = "archives"
COLUMNS = (
    "setting", "data", "model", "track", "recipe", "rank", "unranked", "defense", "worst_attack", "worst_asr", "mean_asr",
    *UTILITY, "relative_time", "seeds", "attacks", "effective_attacks", "stopped", "level",
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A file to download: its name, sha256 and size in bytes."""

    name: str
    sha256: str
    size: int

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}"


def rows_csv(settings: Sequence[Setting]) -> str:
    """One row for each defense of each setting; rates as fractions."""
    return as_csv([_row(setting, row) for setting in settings for row in setting.rows], COLUMNS)


def _row(setting: Setting, row: Row) -> dict[str, object]:
    verdict = row.verdict
    measured = {
        "worst_attack": verdict.worst.attack,
        "worst_asr": verdict.worst.asr,
        "mean_asr": verdict.mean,
        "relative_time": verdict.time,
        "attacks": len(verdict.outcomes),
        "stopped": len(verdict.stopped),
    } if verdict else {}  # fmt: skip
    return {
        **dict.fromkeys(COLUMNS),
        "setting": setting.id,
        "data": setting.section.data,
        "model": setting.section.model,
        "track": setting.track,
        "recipe": setting.recipe,
        "rank": row.rank,
        "unranked": row.why,
        "defense": row.label,
        "seeds": row.seeds,
        "effective_attacks": len(setting.attacks),
        "level": row.level,
        **row.utility,
        **measured,
    }


def copy_archives(files: Sequence[Path], site: Path) -> list[Archive]:
    """Copy archives into the site. Raises UserError for one that is missing or has the name of another."""
    names = [file.name for file in files]
    for file in files:
        if not file.is_file():
            raise UserError(f"--archive {file}: no such file")
        if names.count(file.name) > 1:
            raise UserError(f"--archive {file}: two archives have this name; rename one")
    (site / FOLDER).mkdir(parents=True, exist_ok=True) if files else None
    for file in files:
        shutil.copyfile(file, site / FOLDER / file.name)
    return [Archive(file.name, sha256(file), file.stat().st_size) for file in sorted(files, key=lambda file: file.name)]
