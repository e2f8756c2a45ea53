"""Benchmarks, each run as a module."""

from __future__ import annotations

import sys

import click

from bench.errors import UserError


def run(command: click.Command) -> None:
    """Run a benchmark; bad input ends it with one sentence and exit code 2."""
    try:
        command()
    except UserError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)
