"""Plugins that are broken on purpose, and the checks that they fail."""

from __future__ import annotations

from typing import Any

from bench.api import Plugin
from bench.registry import Entry
from bench.testing import checks_for


def failures_of(base: type[Plugin], **members: Any) -> dict[str, str]:
    """The messages of the checks that a plugin fails with some members replaced, by check."""
    doc = {"__doc__": "A plugin that is broken (Nobody 2024).", "__module__": __name__}
    plugin = type("Broken", (base,), {**doc, **members})
    plugin.name = "broken"  # type: ignore[attr-defined]
    return failed_checks(Entry(plugin, "built-in test"))


def failed_checks(entry: Entry[Any]) -> dict[str, str]:
    """The messages of the failed checks, by check."""
    failures = {}
    for check in checks_for(entry):
        try:
            check.run()
        except Exception as error:
            failures[check.name] = str(error)
    return failures
