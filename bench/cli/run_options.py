"""What `bench run` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_ATTACKS = ("badnet,tdpa",)
DEFAULT_DEFENSES = ("clip",)


@dataclass(frozen=True)
class RunOptions:
    """The options as click gives them: lists are not yet split at commas, and None is an option that was not given."""

    defenses: tuple[str, ...]
    attacks: tuple[str, ...]
    suites: tuple[str, ...]
    data: str | None
    data_root: Path | None
    downstream_root: Path | None
    evaluators: tuple[str, ...]
    model: str | None
    recipe: str | None
    seeds: tuple[str, ...]
    options: tuple[str, ...]
    plugins: tuple[str, ...]
    out: Path
    device: str
    precision: str
    jobs: str | None
    shard: str | None
    executor: str
    ray_address: str | None
    cpus_per_cell: int | None
    gpus_per_cell: float | None
    track: str | None
    controls: bool
    dry_run: bool
    retry_failed: bool
    checkpoint_minutes: float

    @property
    def checkpoint_seconds(self) -> float:
        return 60 * self.checkpoint_minutes
