"""Lines for people."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console


def say(console: Console, line: str) -> None:
    """Print a line as it is: brackets are no markup, nothing is coloured, and a terminal wraps it anywhere."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def shows_bars(console: Console) -> bool:
    """Whether lines can be drawn anew: on a terminal, and in a notebook that has widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
