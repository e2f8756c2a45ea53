"""Loads plugins, with warnings for those that fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def load_plugins(files: Sequence[str] = ()) -> None:
    """Load all plugins; one that fails is skipped with a warning on standard error."""
    from bench import plugins

    for broken in plugins.load(files):
        warning = f"bench: warning: {broken.origin} was not loaded ({broken.error}); `bench list` shows more"
        print(warning, file=sys.stderr)
