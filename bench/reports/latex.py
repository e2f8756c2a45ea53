"""Paper tables as LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.reports.paper import PaperCell, PaperRow, PaperTable

HEAD = "% In the preamble: \\usepackage{booktabs}\n"
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "–": "--",
    "…": r"\dots{}",
    **{mark: rf"\{mark}" for mark in "{}$&#_%"},
}
READING = (
    r"Percent where a number is a share; mean $\pm$ standard deviation over seeds, or the 95\% interval of one seed; "
    r"bold is the best."
)
LINES = ("published", "measured", "difference")


def escaped(text: str) -> str:
    """The text as LaTeX prints it, on one line."""
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def latex(tables: Iterable[PaperTable]) -> str:
    """A table environment for every edition of a suite."""
    return HEAD + "".join(_table(table) for table in tables)


def _table(table: PaperTable) -> str:
    edition = table.edition
    parts = [
        r"\begin{table}",
        r"\centering",
        r"\small",
        rf"\caption{{{escaped(f'{edition.suite.label}: {edition.suite.title} ({edition.subtitle}).')} {READING}}}",
        rf"\label{{tab:{edition.id}}}",
        "\n\\medskip\n\n".join(_tabular(table, block) for block in table.blocks),
        *_notes(table),
        r"\end{table}",
    ]
    return "\n" + "\n".join(parts) + "\n"


def _tabular(table: PaperTable, block: tuple[int, int]) -> str:
    heads = [*table.edition.suite.heads, ""]
    columns = table.columns[block[0] : block[1]]
    lines = [rf"\begin{{tabular}}{{{'l' * len(heads)}{'r' * len(columns)}}}", r"\toprule"]
    if any(column.group for column in columns):
        lines += _group_lines(table.groups(block), len(heads))
    lines += [_line([*map(escaped, heads), *(escaped(column.label) for column in columns)]), r"\midrule"]
    rows = [_row(row, row.cells[block[0] : block[1]]) for row in table.rows]
    lines.append("\n\\addlinespace\n".join(rows))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _group_lines(groups: Sequence[tuple[str, int]], start: int) -> list[str]:
    names, rules, at = [""] * start, [], start + 1
    for name, width in groups:
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
        at += width
    return [_line(names), " ".join(rules)]


def _row(row: PaperRow, cells: Sequence[PaperCell | None]) -> str:
    lines = []
    for number, kind in enumerate(LINES):
        labels = [escaped(label) if number == 0 else "" for label in row.label]
        lines.append(_line([*labels, kind, *(_text(cell, kind) for cell in cells)]))
    return "\n".join(lines)


def _text(cell: PaperCell | None, kind: str) -> str:
    if cell is None:
        return ""
    if kind != "measured":
        return escaped(cell.printed if kind == "published" else cell.difference_text)
    marks = "".join(rf"\textsuperscript{{{note}}}" for note in cell.measured.notes)
    if not cell.measured.stat:
        return rf"\emph{{{escaped(cell.measured.word)}}}{marks}"
    number = rf"\textbf{{{escaped(cell.text)}}}" if cell.measured.best else escaped(cell.text)
    return " ".join(part for part in (number, escaped(cell.spread)) if part) + marks


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _notes(table: PaperTable) -> list[str]:
    lines = [escaped(table.edition.suite.note)] if table.edition.suite.note else []
    for note in table.notes:
        text = escaped(f"{note.status}: {note.reason} ({note.places})")
        lines.append(rf"\textsuperscript{{{note.number}}} {text}.")
    if not lines:
        return []
    return ["", r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize", " \\\\\n".join(lines), r"\end{minipage}"]
