"""Draws docs/reference.svg from results/reference: `bench report --out results/reference && python docs/picture.py`."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
PICTURE = DOCS / "reference.svg"
TABLE = DOCS.parent / "results" / "reference" / "report" / "table.csv"
NUMBERS = ["asr", "asr_pooled_low", "asr_pooled_high", "asr_floor", "zero_shot.top1", "linear_probe.top1"]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Those of Okabe and Ito, which colour-blind readers can tell apart."""


def measured() -> pd.DataFrame:
    """Cells that were measured, of effective attacks: one row for each attack and defense, in percent."""
    table = pd.read_csv(TABLE, keep_default_na=False, na_values=[""])
    rows = table[(table.status == "done") & (table.attack != "none") & (table.attack_effective == "yes")]
    return rows[["attack", "defense"]].join((100 * rows[NUMBERS]).round(2)).reset_index(drop=True)


def draw(rows: pd.DataFrame, file: Path) -> None:
    """A line for each defense, a colour for each attack. The SVG's description holds the rows as CSV."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 11, "axes.titlesize": 11})
    defenses, attacks = list(rows.defense.unique()), list(rows.attack.unique())
    height = 1.6 + max(0.5, 0.12 * len(attacks)) * len(defenses)
    figure, axes = plt.subplots(1, 2, figsize=(6.6, height), sharey=True, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)
    success, utility = axes
    for place, (attack, colour) in enumerate(zip(attacks, cycle(COLOURS), strict=False)):
        found = rows[rows.attack == attack]
        y = found.defense.map(defenses.index) + (place + 0.5) / len(attacks) * 0.6 - 0.3
        success.hlines(y, found.asr_pooled_low, found.asr_pooled_high, color=colour, linewidth=2, alpha=0.5)
        success.scatter(found.asr_floor, y, marker="|", color="#777777", s=70, label="" if place else "floor (no poison)")
        success.scatter(found.asr, y, color=colour, label=attack, zorder=3)
        utility.scatter(found["zero_shot.top1"], y, color=colour, label="" if place else "zero-shot")
        probe = {"marker": "D", "s": 24, "facecolor": "white", "edgecolor": colour}
        utility.scatter(found["linear_probe.top1"], y, label="" if place else "linear probe", **probe)
    success.set(title="Attack success rate, %\nlower is better", ylim=(len(defenses) - 0.5, -0.5))
    success.set_yticks(range(len(defenses)), defenses)
    utility.set(title="Accuracy, %\nhigher is better")
    for axis in axes:
        axis.set_xlim(-4, 104)
        axis.grid(axis="x", color="#dddddd")
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False, handletextpad=0.2, columnspacing=1)
    figure.savefig(file, metadata={"Date": None, "Description": rows.to_csv(index=False)}, facecolor="white")


if __name__ == "__main__":
    draw(measured(), PICTURE)
