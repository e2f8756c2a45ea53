"""Pin the code of the engine and of the built-in plugins to their versions: `python -m bench.testing.pin`."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from bench import plugins, sources
from bench.registry import BUILT_IN, KINDS


def current() -> dict[str, dict[str, Any]]:
    """The current version and code digest, by kind and name."""
    plugins.load()
    found = {"engine": {"engine": _pin(sources.ENGINE, sources.engine_modules())}}
    for registry in KINDS.values():
        ours = [entry for entry in registry if entry.origin.startswith(BUILT_IN)]
        found[registry.kind] = {
            entry.plugin.name: _pin(entry.plugin.version, sources.plugin_modules(entry.plugin.__module__)) for entry in ours
        }
    return found


def unversioned(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> list[str]:
    """What has changed code under an unchanged version."""
    return [
        f"{kind} {name}" if kind != name else kind
        for kind, pins in now.items()
        for name, pin in pins.items()
        if (old := before.get(kind, {}).get(name)) and old["version"] == pin["version"] and old["digest"] != pin["digest"]
    ]


def _pin(version: str, modules: tuple[str, ...]) -> dict[str, str]:
    return {"version": version, "digest": sources.digest(modules)}


@click.command()
@click.option("--same-numbers", is_flag=True, help="Pin changed code under its old version: no results change.")
def main(same_numbers: bool) -> None:
    """Pin the code of the engine and of every built-in plugin to its version."""
    now = current()
    changed = unversioned(sources.pinned(), now)
    if changed and not same_numbers:
        click.echo(f"the code changed, the version did not: {', '.join(changed)}", err=True)
        click.echo("raise `version` (of the engine: ENGINE in bench/sources.py), or pass --same-numbers", err=True)
        sys.exit(2)
    Path(str(files("bench") / sources.PIN_FILE)).write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
