"""Training curves for TensorBoard or Weights & Biases, in addition to the records; not part of a run's key."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench import keys
from bench.config import RunSpec
from bench.errors import UserError
from bench.matrix.runtime import CellProgress

TRACKERS = {"tensorboard": "pip install 'clip-poison-bench[track]'", "wandb": "pip install wandb"}


class _Log(Protocol):
    """Logs epochs; values that an interrupted run logged for the same epoch or later ones are replaced."""

    def epoch(self, number: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def require(tracker: str) -> None:
    """Raise UserError if the tracker's library is not installed."""
    try:
        importlib.import_module(tracker)
    except ImportError:
        raise UserError(f"--track {tracker}: {tracker} is not installed; {TRACKERS[tracker]}") from None


@contextmanager
def tracked(progress: CellProgress, tracker: str | None, folder: Path, spec: RunSpec) -> Iterator[CellProgress]:
    """Log the numbers of each epoch to folder/TRACKER too; a resumed run continues its log."""
    if tracker is None:
        yield progress
        return
    log = (_TensorBoard if tracker == "tensorboard" else _WandB)(folder / tracker, spec)
    try:
        yield _Tracked(progress, log)
    finally:
        log.close()


class _Tracked:
    def __init__(self, progress: CellProgress, log: _Log) -> None:
        self._log = log
        self._progress = progress
        self.stage, self.step, self.note = progress.stage, progress.step, progress.note
        self.tokenised = progress.tokenised

    def epoch(self, curve: dict[str, Any], epochs: int) -> None:
        values = {name: float(value) for name, value in curve.items() if name != "epoch" and isinstance(value, int | float)}
        self._log.epoch(int(curve["epoch"]), values)
        self._progress.epoch(curve, epochs)


def _title(spec: RunSpec) -> str:
    attack = spec.attack.name if spec.attack else "none"
    return f"{spec.data.name}-{attack}-{spec.defense.name}-seed{spec.seed}-{keys.run_key(spec)}"


class _TensorBoard:
    def __init__(self, folder: Path, spec: RunSpec) -> None:
        self._folder = folder / _title(spec)
        self._writer: Any = None

    def epoch(self, number: int, values: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=number)
        for name, value in values.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _WandB:
    """Offline mode; `wandb sync` uploads the folder."""

    def __init__(self, folder: Path, spec: RunSpec) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project="clip-poison-bench",
            id=keys.run_key(spec),
            name=_title(spec),
            config=spec.model_dump(mode="json"),
            dir=str(folder),
            mode="offline",
            resume="allow",
            settings=wandb.Settings(silent=True),
        )

    def epoch(self, number: int, values: dict[str, float]) -> None:
        self._run.log(values, step=number)

    def close(self) -> None:
        self._run.finish()
