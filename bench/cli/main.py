"""`bench`: dispatches to subcommands, and maps errors to exit codes."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click

from bench import __version__
from bench.errors import Stopped, UserError
from bench.quiet import quiet_libraries
from bench.shutdown import graceful_shutdown, interruptible

_COMMANDS = {
    "run": "Train and evaluate a matrix of attacks x defenses.",
    "evaluate": "Evaluate a CLIP trained elsewhere.",
    "status": "Show which cells of a results folder are done, running, failed and waiting.",
    "report": "Make tables and an HTML report from a results folder.",
    "compare": "Test whether two defenses differ by more than noise.",
    "profile": "Profile training: time by stage, memory, FLOP/s.",
    "poison": "Export a poisoned training set for another trainer.",
    "show": "Plot poisoned images: clean, poisoned, difference.",
    "list": "List attacks, defenses, evaluators, data sets, models and recipes.",
    "describe": "Describe one of them: paper, options, deviations, cost.",
    "cite": "Print BibTeX entries for a results folder or for plugins.",
    "data": "Check a data set before training on it.",
    "submit": "Pack a results folder for a leaderboard.",
    "verify": "Verify an archive that somebody submitted.",
    "leaderboard": "Make a static site from results folders.",
    "check": "Run the contract checks on the plugins in a Python file.",
}


class _Lazy(click.Group):
    """Imports a command's module when it is called; a signal interrupts it immediately unless it handles signals itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"bench.cli.{name}_command").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        with graceful_shutdown() as stop, interruptible(stop):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bench")
def cli() -> None:
    """Which defense stops data poisoning and backdoors in CLIP training, at what cost?

    `bench run` trains and evaluates, `bench report` makes the tables. A cell is one training run
    with its evaluations; finished cells are kept and never run twice.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Exit codes: 0 success, 1 failed cells, 2 bad input or out of disk or memory, 130 SIGINT, 143 SIGTERM."""
    quiet_libraries()
    try:
        status = cli.main(args=arguments, standalone_mode=False)
    except UserError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"bench: {error.format_message()}", err=True)
        sys.exit(2)
    except MemoryError:  # outside of cells, whose errors are recorded
        click.echo("bench: out of memory while opening data and models; give the process more memory", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort, Stopped) as error:
        click.echo("bench: interrupted; run the same command again to resume", err=True)
        sys.exit(128 + (error.number if isinstance(error, Stopped) else signal.SIGINT))
    sys.exit(status or 0)
