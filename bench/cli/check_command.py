"""`bench check`."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.registry import Entry

_TRACEBACK_LINES = 8


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), metavar="PLUGIN.py")
def command(file: Path) -> int:
    """Run the contract checks on the plugins in a Python file. Its code is executed.

    Exit codes: 0 all checks passed, 1 some failed, 2 the file cannot be checked.
    """
    found = _plugins_of(file)
    from bench.testing import checks_for

    total = failed = 0
    for kind, entry in found:
        click.echo(f"{kind} '{entry.plugin.name}':")
        for check in checks_for(entry):
            problem = _problem(check.run, file)
            total, failed = total + 1, failed + (problem is not None)
            title = check.name.replace("_", " ")
            click.echo(f"  ok      {title}" if problem is None else f"  FAILED  {title}: {problem}")
    click.echo(f"{total} checks, {failed} failed")
    return 1 if failed else 0


def _plugins_of(file: Path) -> list[tuple[str, Entry[Any]]]:
    """The plugins in a file, with their kinds. Raises UserError if it registers none or cannot be loaded."""
    from bench import plugins

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    plugins.load()
    found = _registered(file)
    if not found:
        broken = [each for each in plugins.load([file]) if each.origin == f"--plugin {file}"]
        if broken:
            lines = broken[0].traceback.strip().splitlines()
            click.echo("\n".join(lines[-_TRACEBACK_LINES:]), err=True)
            raise UserError(f"{file} cannot be loaded: {broken[0].error}")
        found = _registered(file)
    if not found:
        raise UserError(f'{file} registers no plugin; put a decorator such as @register_defense("name") on its class')
    return found


def _registered(file: Path) -> list[tuple[str, Entry[Any]]]:
    from bench.registry import KINDS

    return [
        (registry.kind, entry)
        for registry in KINDS.values()
        for entry in registry
        if entry.origin == f"--plugin {file}" or Path(str(inspect.getsourcefile(entry.plugin))).resolve() == file.resolve()
    ]


def _problem(run: Callable[[], None], file: Path) -> str | None:
    """Why a check failed, in one line, with the innermost line of `file` that led there; None if it passed."""
    try:
        run()
    except AssertionError as error:
        return _one_line(error)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((each for each in reversed(frames) if Path(each.filename).resolve() == file.resolve()), frames[-1])
        return f"{type(error).__name__}: {_one_line(error)} (line {frame.lineno} of {Path(frame.filename).name})"
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "an assertion without a message"
