"""Paper tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.reports.paper import PaperCell, PaperTable, labels_of
from bench.reports.terminal import grid_of, print_notes

LEGEND = (
    "Measured mean ± standard deviation over seeds; below it the published value, if there is one, and, in brackets, measured "
    "minus published; then the 95% Wilson interval of the counts pooled over seeds, with the n of a seed (≥: the smallest). "
    "Fractions are in percent."
)
GAP = 2
"""Characters between columns."""


def print_papers(tables: Sequence[PaperTable], console: Console) -> None:
    """Print published and measured values in the paper's layout, with as many columns side by side as fit."""
    console.print(Text(LEGEND, style="italic"))
    for citation in dict.fromkeys(table.variant.suite.paper.citation for table in tables if not table.variant.suite.builtin):
        console.print(Text(citation))
    for table, label in zip(tables, labels_of(tables), strict=True):
        variant = table.variant
        console.print(Text(f"\n{label}: {variant.suite.title}", style="bold"))
        console.print(Text(variant.subtitle, style="dim"))
        if variant.suite.figure:
            console.print(Text(f"{variant.suite.figure[:1].upper()}{variant.suite.figure[1:]}."))
        for block in table.blocks(console.width - _label_width(table), _widths(table)) if table.rows else []:
            _print_block(table, block, console)
        print_notes(table.notes, console)


def _print_block(table: PaperTable, block: tuple[int, int], console: Console) -> None:
    grid = grid_of()
    for header in table.variant.suite.headers:
        grid.add_column(Text(header), overflow="fold")
    groups = [text for name, width in table.groups(block) for text in (name, *[""] * (width - 1))]
    for group, column in zip(groups, table.columns[slice(*block)], strict=True):
        head = f"{group}\n{column.label}" if any(groups) else column.label
        grid.add_column(Text(head, justify="right"), justify="right", overflow="fold")
    for row in table.rows:
        grid.add_row(*map(Text, row.label), *(_cell(cell) for cell in row.cells[slice(*block)]))
    console.print(grid)


def _cell(cell: PaperCell | None) -> Text:
    if cell is None:
        return Text("")
    measured = cell.measured
    text = Text(cell.text, style="bold" if measured.best else "") if measured.stat else Text(measured.word, style="yellow")
    text.append(_appendix(cell), style="dim not bold")
    for line in (_published(cell), _interval(cell)):
        text.append(f"\n{line}" if line else "", style="dim not bold")
    return text


def _appendix(cell: PaperCell) -> str:
    marks = "".join(f"[{note}]" for note in sorted(cell.measured.notes))
    return "".join(f" {part}" for part in (cell.spread, marks) if part)


def _interval(cell: PaperCell) -> str:
    return f"{cell.interval} {cell.pooled.size}" if cell.pooled else ""


def _published(cell: PaperCell) -> str:
    return f"{cell.printed} ({cell.difference_text})" if cell.difference_text else cell.printed


def _label_width(table: PaperTable) -> int:
    labels = [table.variant.suite.headers, *(row.label for row in table.rows)]
    return 2 + sum(GAP + max(map(len, column)) for column in zip(*labels, strict=True))


def _widths(table: PaperTable) -> list[float]:
    """Width of each column in characters, with the gap before it."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    return [
        GAP + max([len(head.group), *map(len, head.label.split()), *(_width(cell) for cell in cells if cell)])
        for head, cells in zip(table.columns, columns, strict=True)
    ]


def _width(cell: PaperCell) -> int:
    return max(len((cell.text or cell.measured.word) + _appendix(cell)), len(_interval(cell)), len(_published(cell)))
