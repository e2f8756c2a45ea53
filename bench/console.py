"""Terminal output."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console


def print_plain(console: Console, line: str) -> None:
    """Print a line verbatim: without markup, highlighting or word wrap."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def can_redraw(console: Console) -> bool:
    """Whether printed lines can be redrawn: on a terminal, and in a notebook with widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
