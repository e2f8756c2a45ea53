"""The summary of each section as a LaTeX table, with booktabs."""

from __future__ import annotations

from collections.abc import Iterable

from bench.reports.answer import Answer, Verdict, answer
from bench.reports.labels import number
from bench.reports.latex import HEAD, escaped
from bench.reports.sections import Section
from bench.statistics.paired import Paired

COLUMNS = ("Defense", "Stopped", "Worst ASR", "Mean ASR", "Utility", "Cost", "Time")


def answer_tables(sections: Iterable[Section]) -> str:
    """One table for each section with an effective attack; empty if there is none."""
    found = [(section, summary) for section in sections if (summary := answer(section))]
    return HEAD + "".join(_table(section, summary) for section, summary in found) if found else ""


def _table(section: Section, summary: Answer) -> str:
    measure = next((verdict.measure for verdict in summary.verdicts if verdict.measure), "utility")
    caption = (
        f"{section.title} ({section.subtitle}), in percent. Attacks: {', '.join(summary.attacks)}. An attack is stopped if its "
        f"mean ASR is at most 5 points above its floor. Utility is {measure}; its cost is relative to plain CLIP, with the 95% "
        f"interval over seeds. Time is relative to plain CLIP. {summary.caveat}"
    )
    rows = [" & ".join(map(escaped, _row(verdict))) + r" \\" for verdict in summary.verdicts]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption.strip())}}}",
        rf"\label{{tab:{section.id}-answer}}",
        r"\smallskip",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        " & ".join(COLUMNS) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n" + "\n".join(lines) + "\n"


def _row(verdict: Verdict) -> list[str]:
    if verdict.undefended:
        return [verdict.defense, "–", number(verdict.worst.asr), number(verdict.mean), number(verdict.utility), "–", "1.0"]
    return [
        verdict.defense,
        f"{len(verdict.stopped)} of {len(verdict.outcomes)}",
        number(verdict.worst.asr),
        number(verdict.mean),
        number(verdict.utility),
        _cost(verdict.price),
        f"{verdict.time:.1f}" if verdict.time else "–",
    ]


def _cost(price: Paired | float | None) -> str:
    if isinstance(price, Paired):
        return f"{number(price.difference)} [{number(price.low)}, {number(price.high)}]"
    return number(price)
