"""`bench`: finds the subcommand and turns errors into exit codes."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click

from bench import __version__
from bench.errors import Stopped, UserError
from bench.matrix.stop import at_once, stoppable
from bench.quiet import quiet_libraries

_COMMANDS = {
    "run": "Train and evaluate a matrix of attacks x defenses.",
    "status": "Show what is done, running, failed and waiting in a results folder.",
    "report": "Make tables and an HTML page from the records of a results folder.",
    "profile": "Measure where the time of a training goes.",
    "poison": "Write a poisoned training set for another trainer.",
    "show": "Draw an attack: clean, poisoned, difference.",
    "list": "Show what attacks, defenses, evaluators, data sets, models and recipes there are.",
    "describe": "Show one of these: paper, options, deviations, cost.",
    "cite": "Print BibTeX of what a results folder used, or of plugins.",
    "data": "Count what is wrong with a data set before training on it.",
    "check": "Run the contract checks on the plugins of a Python file.",
}


class _Lazy(click.Group):
    """Imports a command's module only when that command is called; a signal ends it at once, save where it says otherwise."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return importlib.import_module(f"bench.cli.{name}_command").command

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable() as stop, at_once(stop):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bench")
def cli() -> None:
    """Which defense stops data poisoning and backdoors in CLIP training, at what cost?

    `bench run` trains and measures, `bench report` makes the tables. A cell is one training
    and what is measured on it; finished cells are kept and never done twice.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Exit codes: 0 fine, 1 some cells failed, 2 bad input, a full disk or memory, 130 SIGINT, 143 SIGTERM."""
    quiet_libraries()
    try:
        status = cli.main(args=arguments, standalone_mode=False)
    except UserError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"bench: {error.format_message()}", err=True)
        sys.exit(2)
    except MemoryError:  # outside of a cell, which fails alone
        click.echo("bench: out of memory while data and models are opened or shown; give the process more", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort, Stopped) as error:
        click.echo("bench: interrupted; the same command goes on from here", err=True)
        sys.exit(128 + (error.number if isinstance(error, Stopped) else signal.SIGINT))
    sys.exit(status or 0)
