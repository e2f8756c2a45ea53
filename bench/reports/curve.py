"""The loss curve as points of a drawing, and the other telemetry in a line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.reports.labels import is_number, plain
from bench.reports.records import Record

LEFT, RIGHT, TOP, BOTTOM = 40, 312, 10, 98


@dataclass(frozen=True)
class Curve:
    """A polyline in a box of 320 x 120."""

    points: list[tuple[float, float]]
    low: str
    high: str
    first: str
    last: str
    title: str

    @property
    def line(self) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def curve_of(curves: Sequence[Record]) -> Curve | None:
    """The finite losses over epochs; None when there is none."""
    found = [(c["epoch"], c["loss"]) for c in curves if is_number(c.get("epoch")) and is_number(c.get("loss"))]
    if not found:
        return None
    epochs, losses = [epoch for epoch, _ in found], [loss for _, loss in found]
    x_span, y_span = (max(epochs) - min(epochs)) or 1, (max(losses) - min(losses)) or 1.0
    points = [
        (
            LEFT + (RIGHT - LEFT) * (epoch - min(epochs)) / x_span,
            BOTTOM - (BOTTOM - TOP) * (loss - min(losses)) / y_span,
        )
        for epoch, loss in found
    ]
    title = f"Training loss from {losses[0]:.3g} (epoch {epochs[0]}) to {losses[-1]:.3g} (epoch {epochs[-1]})"
    return Curve(points, f"{min(losses):.3g}", f"{max(losses):.3g}", str(epochs[0]), str(epochs[-1]), title)


def telemetry_of(curves: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Name, first and last value of every other number by epoch. Timing has its own place, and so have histograms."""
    names = sorted({name for entry in curves for name in entry} - {"epoch", "loss", "seconds", "pairs_per_second"})
    rows = []
    for name in names:
        values = [value for entry in curves if (value := entry.get(name)) is not None and not isinstance(value, list)]
        if values:
            rows.append((name, _short(values[0]), _short(values[-1])))
    return rows


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(value)
