"""Recorded measurements beside those made here, and how far apart they may be."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import torch

from bench.matrix.provenance import provenance
from bench.matrix.schema import EvalRecord, MeasurementRecord, RunRecord
from bench.submission.flaw import Flaw
from bench.submission.manifest import Environment, environment

MEASURED_AGAIN = 0.01
"""The most that a fraction may differ where the same weights are measured on another kind of CPU."""
TRAINED_AGAIN = 0.10
"""The same where the weights are trained anew, of which the last bits, and so all that follows, differ between CPUs."""


_KIND = ("machine", "torch", "threads", "device", "processes")


def same_kind(record: RunRecord, made: Environment) -> bool:
    """Whether a run was made on a CPU of this kind, with this PyTorch, on the threads that are in use now.

    Only what record and manifest say is known of that machine: its name, and its instruction sets where it was packed.
    """
    here = provenance(torch.device("cpu"), 1, (), "")
    known = all(getattr(record.provenance, name) == getattr(here, name) for name in _KIND)
    return known and made.instructions == environment().instructions and made.platform.split("-")[0] == platform.system()


def check_measurements(file: str, recorded: EvalRecord, here: EvalRecord, tolerance: float, by: str) -> None:
    """Raise Flaw unless each measurement is there, with its n, and within `tolerance`; `by` says what measured it here."""
    own, others = _by_place(recorded.measurements), _by_place(here.measurements)
    if len(own) < len(recorded.measurements):
        raise Flaw(file, "has two values of one metric and task")
    for place in sorted(own.keys() ^ others.keys()):
        raise Flaw(file, f"{' of '.join(place)} is {'not measured here' if place in own else 'missing'}")
    for (metric, task), each in own.items():
        other = others[metric, task]
        if each.n != other.n:
            raise Flaw(file, f"{metric} of {task} is on {each.n} images, {by} gives it on {other.n}")
        for name in ("value", "ci_low", "ci_high"):
            claimed, found = getattr(each, name), getattr(other, name)
            if not _close(claimed, found, tolerance):
                what = metric if name == "value" else f"{name} of {metric}"
                raise Flaw(file, f"{what} of {task} is {claimed}, but {by} gives {found}")


def _by_place(measurements: Sequence[MeasurementRecord]) -> dict[tuple[str, str], MeasurementRecord]:
    return {(each.metric, each.task): each for each in measurements}


def _close(claimed: float | None, found: float | None, tolerance: float) -> bool:
    """Fractions by their difference, larger numbers by their ratio."""
    if claimed is None or found is None:
        return claimed is found
    return abs(claimed - found) <= tolerance * max(1.0, abs(found))
