"""A few steps of each phase as a Chrome trace, for chrome://tracing or Perfetto."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from bench.errors import UserError
from bench.profiling.measure import PhaseTimes, run_steps
from bench.training.trainer import Trainer

_STEPS = 3


def traced(trainer: Trainer, phases: Sequence[PhaseTimes]) -> list[dict[str, Any]]:
    """The events of three steps of each phase, under the names of the phase and of the stages."""
    activities = [ProfilerActivity.CPU]
    if trainer.encoder.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for phase in phases:
            with record_function(f"{trainer.spec.defense.name}: {phase.name}"):
                run_steps(trainer, phase.place, _STEPS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return list(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def write_trace(events: Sequence[dict[str, Any]], path: Path) -> None:
    """Raises UserError where the file cannot be written."""
    try:
        path.write_text(json.dumps({"traceEvents": list(events), "displayTimeUnit": "ms"}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--trace {path}: cannot be written ({error.strerror}); choose another file") from None
