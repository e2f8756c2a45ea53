"""The tables of a results folder in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.matrix.store import Store
from bench.reports.answer import Answer, answer
from bench.reports.model_detection import detection_of
from bench.reports.notes import Note
from bench.reports.price import CONTROLS, PriceTable, price_table
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.tables import AsrTable, Cell, UtilityTable, asr_table, utility_table

EMPTY = "No cells yet; run `bench run` first."
LEGEND = (
    "± is the standard deviation over seeds. [ , ] below it is the 95% Wilson interval of the counts pooled over seeds, with "
    "the n of a seed (≥: the smallest); it does not include the variation between seeds."
)
FULL_STATUS = {"did not engage": "the defense did not engage"}


def print_tables(store: Store, console: Console) -> None:
    """Print attack success and utility of every section in percent, with notes on missing values."""
    sections = sections_of(load_runs(store))
    if not sections:
        console.print(Text(EMPTY))
    for section in sections:
        console.print(Text(f"\n{section.title}", style="bold"), Text(f"\n{section.subtitle}", style="dim"))
        if found := answer(section):
            _print_answer(found, console)
        asr, utility = asr_table(section), utility_table(section)
        if asr:
            _print_asr(asr, console)
        if utility:
            _print_utility(utility, console)
        for detection in detection_of(section):
            console.print(Text(detection.sentence))
        if price := price_table(section):
            _print_price(price, console)
    if any(len(group.runs) > 1 for section in sections for group in section.groups.values()):
        console.print(Text(LEGEND, style="dim"))


def _print_answer(found: Answer, console: Console) -> None:
    console.print()
    for verdict in found.verdicts:
        console.print(Text.assemble((verdict.defense, "bold"), f" {verdict.sentence}"))
    if found.caveat:
        console.print(Text(found.caveat, style="dim"))


def _print_asr(table: AsrTable, console: Console) -> None:
    console.print(Text("\nAttack success rate %, lower is better", style="italic"))
    step = max(1, (console.width - 22) // 21)
    for start in range(0, len(table.attacks), step):
        shown = slice(start, start + step)
        grid = grid_of()
        grid.add_column("defense", overflow="fold")
        for attack, verdict in zip(table.attacks[shown], table.verdicts[shown], strict=True):
            grid.add_column(
                Text(f"{attack}\n{verdict.message}" if verdict.message else attack), justify="right", overflow="fold"
            )
        for row in table.rows:
            grid.add_row(Text(row.defense), *(_cell(cell, True) for cell in row.cells[shown]))
        console.print(grid)
    print_notes(table.notes, console)


def _print_utility(table: UtilityTable, console: Console) -> None:
    """Print only the columns that summarise an evaluator; the report has all tasks."""
    positions = [at for at, column in enumerate(table.columns) if column.sums_up or not column.metric]
    console.print(Text("\nUtility, fractions in percent", style="italic"))
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
    console.print(Text("\nPrice breakdown, fractions in percent", style="italic"))
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
    """Print the records that are missing from the tables because they are damaged."""
    for path, reason in sorted(store.damaged.items()):
        console.print(Text(f"{path} is damaged and ignored: {reason}"), soft_wrap=True)


def print_notes(notes: list[Note], console: Console) -> None:
    for note in notes:
        status = FULL_STATUS.get(note.status, note.status)
        console.print(Text(f"[{note.number}] {status}: {note.reason} ({note.places})", style="dim"))
