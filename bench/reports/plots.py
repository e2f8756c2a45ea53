"""Figures of a section as SVG, PNG or PDF files, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.errors import UserError
from bench.reports.answer import answer
from bench.reports.measures import TOP1, UTILITY
from bench.reports.scatter import BOTTOM, LEFT, RIGHT, TOP, Scatter, scatter
from bench.reports.sections import Section
from bench.reports.table_rows import section_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""
MARKERS = "osD^vPX"
"""One for each attack, so that figures can be read in black and white."""


def figure_files(sections: Iterable[Section], ending: str) -> dict[str, bytes]:
    """`outcomes-ID` and `tradeoff-ID` of each section with an effective attack, by file name.

    Raises UserError if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError(f"--format {ending} needs matplotlib; pip install 'clip-poison-bench[plot]'") from None
    matplotlib.use("Agg")
    files: dict[str, bytes] = {}
    for section in sections:
        rows, summary = outcome_rows(section), answer(section)
        drawing = scatter(summary) if summary else None
        if len(rows):
            files[f"outcomes-{section.id}.{ending}"] = _saved(outcomes(rows), ending, rows.to_csv(index=False))
        if drawing:
            files[f"tradeoff-{section.id}.{ending}"] = _saved(tradeoff(drawing), ending, drawing.title)
    return files


def outcome_rows(section: Section) -> pd.DataFrame:
    """Measured cells under effective attacks: attack, defense, ASR with interval and floor, and utilities, in percent."""
    found = pd.DataFrame([row for row in section_rows(section) if row["status"] == "done" and row["attack_effective"] == "yes"])
    if not len(found):
        return found
    utilities = [f"{name}.{TOP1}" for name in UTILITY]
    numbers = found.reindex(columns=["asr", "asr_pooled_low", "asr_pooled_high", "asr_floor", *utilities]).astype(float)
    return found[["attack", "defense"]].join((100 * numbers).round(2)).reset_index(drop=True)


def outcomes(rows: pd.DataFrame) -> Figure:
    """ASR beside utility: one line for each defense, a colour and a marker for each attack."""
    from matplotlib import pyplot as plt

    defenses, attacks = list(rows.defense.unique()), list(rows.attack.unique())
    with plt.rc_context(_STYLE):
        height = 1.6 + max(0.5, 0.12 * len(attacks)) * len(defenses)
        figure, (success, utility) = plt.subplots(1, 2, figsize=(6.6, height), sharey=True, layout="constrained")
        for place, (attack, colour, marker) in enumerate(zip(attacks, cycle(COLOURS), cycle(MARKERS), strict=False)):
            found = rows[rows.attack == attack]
            y = found.defense.map(defenses.index) + (place + 0.5) / len(attacks) * 0.6 - 0.3
            success.hlines(y, found.asr_pooled_low, found.asr_pooled_high, color=colour, linewidth=2, alpha=0.5)
            success.scatter(found.asr_floor, y, marker="|", color="#777777", s=70, label="" if place else "floor (no poison)")
            success.scatter(found.asr, y, color=colour, marker=marker, s=28, label=attack, zorder=3)
            for name, face in zip(UTILITY, (colour, "white"), strict=True):
                label = "" if place else name.replace("_", " ")
                style = {"marker": marker, "s": 28, "facecolor": face, "edgecolor": colour}
                utility.scatter(found[f"{name}.{TOP1}"], y, label=label, **style)
        success.set(title="Attack success rate, %\nlower is better", ylim=(len(defenses) - 0.5, -0.5))
        success.set_yticks(range(len(defenses)), defenses)
        utility.set(title="Accuracy, %\nhigher is better")
        for axis in (success, utility):
            axis.set_xlim(-4, 104)
            _plain(axis, "x")
            axis.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, handletextpad=0.2, columnspacing=1
            )
    return figure


def tradeoff(drawing: Scatter) -> Figure:
    """The page's scatter: worst ASR against utility, areas by training time, and the Pareto front."""
    from matplotlib import pyplot as plt
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    with plt.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(4.2, 3.1), layout="constrained")
        front = sorted((mark.x, mark.y) for mark in drawing.marks if mark.front)
        axis.plot([x for x, _ in front], [y for _, y in front], color="#777777", linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        outline = [withStroke(linewidth=3, foreground="white")]
        for mark in drawing.marks:
            face = COLOURS[0] if mark.front else "#bbbbbb"
            axis.add_patch(Circle((mark.x, mark.y), mark.radius, facecolor=face, edgecolor="white", zorder=2))
            side = "right" if mark.anchor == "end" else "left"
            axis.text(mark.label_x, mark.label_y - 4, mark.name, ha=side, va="center", zorder=3, path_effects=outline)
        axis.set(xlim=(LEFT, RIGHT + 6), ylim=(BOTTOM, TOP - 6), aspect="equal")
        axis.set_xticks([tick.at for tick in drawing.x_ticks], [tick.text for tick in drawing.x_ticks])
        axis.set_yticks([tick.at for tick in drawing.y_ticks], [tick.text for tick in drawing.y_ticks])
        axis.set(xlabel="worst ASR over the attacks, %", ylabel=f"{drawing.measure.replace('_', ' ')}, %")
        _plain(axis, "both")
    return figure


_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 11, "axes.titlesize": 11}


def _plain(axis: Axes, grid: str) -> None:
    axis.grid(axis=grid, color="#dddddd")  # type: ignore[arg-type]
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _saved(figure: Figure, ending: str, description: str) -> bytes:
    """The file's bytes, without a date; an SVG's metadata hold the description."""
    from matplotlib import pyplot as plt

    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Description": description},
        "png": {"Description": description},
        "pdf": {"CreationDate": None, "Subject": description},
    }
    stream = io.BytesIO()
    with plt.rc_context(_STYLE):
        figure.savefig(stream, format=ending, metadata=metadata[ending], facecolor="white", dpi=200)
    plt.close(figure)
    return stream.getvalue()
