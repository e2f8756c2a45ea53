"""Chrome traces of a few steps of each phase, for chrome://tracing or Perfetto."""

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
    """Trace events of three steps of each phase, labelled by phase and stage."""
    activities = [ProfilerActivity.CPU]
    if trainer.encoder.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for phase in phases:
            with record_function(f"{trainer.spec.defense.name}: {phase.name}"):
                run_steps(trainer, phase.first, _STEPS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return list(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def write_trace(events: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a trace file. Raises UserError if it is not writable."""
    try:
        path.write_text(json.dumps({"traceEvents": list(events), "displayTimeUnit": "ms"}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--trace {path}: not writable ({error.strerror}); choose another file") from None
