"""Paper tables as LaTeX, with booktabs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from bench.reports.paper import PaperCell, PaperRow, PaperTable

HEAD = "% In the preamble: \\usepackage{booktabs}\n"
_SPECIAL = str.maketrans(
    {
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
        "≥": r"$\geq$",
        **{mark: rf"\{mark}" for mark in "{}$&#_%"},
    }
)
LEGEND = (
    r"Fractions are in percent. Below each mean: the standard deviation over seeds, with the (smallest) $n$ of a seed, and the "
    r"95\% Wilson interval of the counts pooled over seeds; for a single seed, its 95\% interval. The best result is bold."
)
LINES = ("published", "measured", "±", "[ , ]", "difference")
"""The lines of a row; MARKS have no label."""
MARKS = ("±", "[ , ]")
Block = tuple[int, int]
PAGE_WIDTH, PAGE_HEIGHT = 82.0, 48
"""Characters and lines of a float on the narrowest common page, that of the article class."""
GAP = 1.5
"""Characters between columns."""
HEAD_WIDTH = 12
"""Characters after which the head of a column is wrapped."""


def escaped(text: str) -> str:
    """Escape a text for LaTeX, on one line, with text between backticks as code."""
    printed = " ".join(text.split()).translate(_SPECIAL)
    return re.sub("`([^`]*)`", r"\\texttt{\1}", printed)


def latex(tables: Iterable[PaperTable]) -> str:
    """One table environment for each suite variant, or several if it does not fit on a page."""
    return HEAD + "".join(_table(table) for table in tables)


def _table(table: PaperTable) -> str:
    pages = _pages(table)
    if len(pages) == 1:
        return _float(table, pages[0], table.variant.id, "")
    return "".join(
        _float(table, blocks, f"{table.variant.id}-{number}", f", part {number} of {len(pages)}")
        for number, blocks in enumerate(pages, 1)
    )


def _pages(table: PaperTable) -> list[list[Block]]:
    """Pages of column blocks: each block fits the width of a page, and the blocks of a page fit its height."""
    pages: list[list[Block]] = [[]]
    for block in table.blocks(PAGE_WIDTH - _label_width(table), _widths(table)):
        if pages[-1] and sum(_height(table, each) for each in [*pages[-1], block]) > PAGE_HEIGHT:
            pages.append([])
        pages[-1].append(block)
    return pages


def _label_width(table: PaperTable) -> float:
    labels = [table.variant.suite.headers, *(row.label for row in table.rows)]
    return sum(GAP + max(map(len, column)) for column in zip(*labels, strict=True)) + GAP + max(map(len, LINES))


def _widths(table: PaperTable) -> list[float]:
    """Width of each column in characters, with the gap before it."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    return [
        GAP + max([*map(len, _wrapped(head.label)), *(_width(cell) for cell in cells if cell)])
        for head, cells in zip(table.columns, columns, strict=True)
    ]


def _width(cell: PaperCell) -> float:
    found = max(len(cell.printed), len(cell.text or cell.measured.word), len(cell.difference_text))
    return max(found + len(cell.measured.notes), *(len(_small(cell, mark)) for mark in MARKS))


def _height(table: PaperTable, block: Block) -> float:
    return 5 + sum(0.5 + len(_kinds(row.cells[slice(*block)])) for row in table.rows)


def _float(table: PaperTable, blocks: Sequence[Block], label: str, part: str) -> str:
    variant = table.variant
    suite = variant.suite
    cited = rf"~\cite{{{suite.paper.cite}}}" if suite.paper.cite else ""
    title = f"{escaped(f'{suite.title} ({suite.reference}')}{cited}{escaped(f'{part}, {variant.subtitle}).')}"
    parts = [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{title} {LEGEND}}}",
        rf"\label{{tab:{label}}}",
        r"\smallskip",
        "",
        "\n\\medskip\n\n".join(_tabular(table, block) for block in blocks),
        *_notes(table, blocks),
        r"\end{table}",
    ]
    return "\n" + "\n".join(parts) + "\n"


def _tabular(table: PaperTable, block: Block) -> str:
    heads = [*table.variant.suite.headers, ""]
    columns = table.columns[slice(*block)]
    lines = [rf"\begin{{tabular}}{{{'l' * len(heads)}{'r' * len(columns)}}}", r"\toprule"]
    if any(column.group for column in columns):
        lines += _group_lines(table.groups(block), len(heads))
    lines += [_line([*map(escaped, heads), *(_head(column.label) for column in columns)]), r"\midrule"]
    rows = [_row(row, row.cells[slice(*block)]) for row in table.rows]
    lines.append("\n\\addlinespace\n".join(rows))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _wrapped(label: str) -> list[str]:
    return textwrap.wrap(label, HEAD_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]


def _head(label: str) -> str:
    lines = [escaped(line) for line in _wrapped(label)]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r"\\".join(lines) + "}"


def _group_lines(groups: Sequence[tuple[str, int]], start: int) -> list[str]:
    names, rules, at = [""] * start, [], start + 1
    for name, width in groups:
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}")
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if name else []
        at += width
    return [_line(names), " ".join(rules)]


def _row(row: PaperRow, cells: Sequence[PaperCell | None]) -> str:
    lines = []
    for number, kind in enumerate(_kinds(cells)):
        labels = [escaped(label) if number == 0 else "" for label in row.label]
        lines.append(_line([*labels, "" if kind in MARKS else kind, *(_text(cell, kind) for cell in cells)]))
    return "\n".join(lines)


def _kinds(cells: Sequence[PaperCell | None]) -> list[str]:
    """The lines that are not empty; at least one."""
    return [kind for kind in LINES if any(_text(cell, kind) for cell in cells)] or [LINES[0]]


def _text(cell: PaperCell | None, kind: str) -> str:
    if cell is None:
        return ""
    if kind == "measured":
        return _measured(cell)
    if kind in MARKS:
        text = _small(cell, kind)
        return rf"\scriptsize {escaped(text)}" if text else ""
    return escaped(cell.printed if kind == "published" else cell.difference_text)


def _small(cell: PaperCell, mark: str) -> str:
    if mark != MARKS[0]:
        return cell.interval
    return f"{cell.spread}, {cell.pooled.size}" if cell.pooled else cell.spread


def _measured(cell: PaperCell) -> str:
    marks = rf"\textsuperscript{{{','.join(map(str, sorted(cell.measured.notes)))}}}" if cell.measured.notes else ""
    if not cell.measured.stat:
        return rf"\emph{{{escaped(cell.measured.word)}}}{marks}"
    return (rf"\textbf{{{escaped(cell.text)}}}" if cell.measured.best else escaped(cell.text)) + marks


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _notes(table: PaperTable, blocks: Sequence[Block]) -> list[str]:
    cells = [cell for block in blocks for row in table.rows for cell in row.cells[slice(*block)] if cell]
    marked = {number for cell in cells for number in cell.measured.notes}
    lines = [escaped(table.variant.suite.note)] if table.variant.suite.note else []
    for note in table.notes:
        if note.number in marked:
            text = escaped(f"{note.status}: {note.reason} ({note.places})")
            lines.append(rf"\textsuperscript{{{note.number}}} {text}.")
    if not lines:
        return []
    return ["", r"\medskip", r"\begin{minipage}{\linewidth}\scriptsize\raggedright", " \\\\\n".join(lines), r"\end{minipage}"]
