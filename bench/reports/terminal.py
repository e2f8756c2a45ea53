"""The tables of a results folder in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.matrix.store import Store
from bench.reports.notes import Note
from bench.reports.price import CONTROLS, PriceTable, price_table
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.tables import AsrTable, Cell, UtilityTable, asr_table, utility_table
from bench.reports.verdicts import verdicts_of

EMPTY = "No cells yet: `bench run` fills this results folder."
READING = (
    "± is the spread over seeds. [ , ] below it is the 95% Wilson interval of the counts of all seeds pooled, with the n of a "
    "seed, or of the smallest (≥): it holds at 0 and 100 too, and says nothing of the spread."
)
SHORTER = {"did not take": "the attack did not take", "did not engage": "the defense did not engage"}


def print_tables(store: Store, console: Console) -> None:
    """Attack success and utility of every section, percent, with the notes of their empty cells."""
    sections = sections_of(load_runs(store))
    if not sections:
        console.print(Text(EMPTY))
    for section in sections:
        console.print(Text(f"\n{section.title}", style="bold"), Text(f"\n{section.subtitle}", style="dim"))
        asr, utility = asr_table(section), utility_table(section)
        if asr:
            _print_asr(asr, console)
        if utility:
            _print_utility(utility, console)
        for verdict in verdicts_of(section):
            console.print(Text(verdict.sentence))
        if price := price_table(section):
            _print_price(price, console)
    if any(len(group.runs) > 1 for section in sections for group in section.groups.values()):
        console.print(Text(READING, style="dim"))


def _print_asr(table: AsrTable, console: Console) -> None:
    console.print(Text("\nAttack success rate %, lower is better", style="italic"))
    step = max(1, (console.width - 22) // 21)
    for start in range(0, len(table.attacks), step):
        shown = slice(start, start + step)
        grid = grid_of()
        grid.add_column("defense", overflow="fold")
        for attack, took in zip(table.attacks[shown], table.took[shown], strict=True):
            grid.add_column(Text(f"{attack}\n{took.message}" if took.message else attack), justify="right", overflow="fold")
        for row in table.rows:
            grid.add_row(Text(row.defense), *(_cell(cell, True) for cell in row.cells[shown]))
        console.print(grid)
    print_notes(table.notes, console)


def _print_utility(table: UtilityTable, console: Console) -> None:
    """Only the column that sums up each evaluator: the tasks are in the report."""
    positions = [at for at, column in enumerate(table.columns) if column.sums_up or not column.metric]
    console.print(Text("\nUtility, percent where it is a share", style="italic"))
    step = max(1, (console.width - 36) // 21)
    for start in range(0, len(positions), step):
        shown = positions[start : start + step]
        grid = grid_of()
        grid.add_column("attack", overflow="fold")
        grid.add_column("defense", overflow="fold")
        for at in shown:
            column = table.columns[at]
            grid.add_column(Text(f"{column.evaluator}\n{column.metric}"), justify="right", overflow="fold")
        previous = ""
        for row in table.rows:
            attack = row.attack if row.attack != previous else ""
            defense = Text(f"{row.defense} {_marks(row.notes)}".rstrip())
            grid.add_row(Text(attack), defense, *(_cell(row.cells[at], False) for at in shown))
            previous = row.attack
        console.print(grid)
    print_notes(table.notes, console)


def _print_price(table: PriceTable, console: Console) -> None:
    console.print(Text("\nWhat the price is made of, percent where it is a share", style="italic"))
    grid = grid_of()
    for name in ("attack", "defense", "measure"):
        grid.add_column(name, no_wrap=True)
    for name in ("clip", *CONTROLS.values(), "defense"):
        grid.add_column(Text(name), justify="right", overflow="fold")
    previous = ("", "")
    for row in table.rows:
        names = (row.attack, row.defense) if (row.attack, row.defense) != previous else ("", "")
        grid.add_row(*map(Text, names), Text(row.measure), *(_cell(cell, False) for cell in row.cells))
        previous = row.attack, row.defense
    console.print(grid)
    for sentence in table.sentences:
        console.print(Text(sentence))
    print_notes(table.notes, console)


def grid_of() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False)


def _cell(cell: Cell, seeds: bool) -> Text:
    if not cell.asked:
        return Text("·", style="dim")
    marks = _marks(cell.notes)
    if not cell.stat:
        return Text(f"{cell.word} {marks}".strip(), style="yellow")
    text = Text(f"{cell.stat.text}", style="bold" if cell.best else "")
    text.append(f" {cell.stat.spread}" if seeds or cell.stat.std is not None else "", style="dim not bold")
    text.append(f", {len(cell.stat.seeds)} seeds" if seeds and cell.stat.std is not None else "", style="dim not bold")
    text.append(f" {marks}" if marks else "")
    return text.append(f"\n{cell.stat.interval}" if cell.stat.interval else "", style="dim not bold")


def _marks(notes: list[int]) -> str:
    return "".join(f"[{note}]" for note in notes)


def print_damaged(store: Store, console: Console) -> None:
    """The records that the tables are without."""
    for path, reason in sorted(store.damaged.items()):
        console.print(Text(f"{path} is damaged and left out: {reason}"), soft_wrap=True)


def print_notes(notes: list[Note], console: Console) -> None:
    for note in notes:
        status = SHORTER.get(note.status, note.status)
        console.print(Text(f"[{note.number}] {status}: {note.reason} ({note.places})", style="dim"))
