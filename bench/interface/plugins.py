"""Fills the registries, and says what could not be loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def load_plugins(files: Sequence[str] = ()) -> None:
    """Fill the registries; a plugin that fails is told on standard error and otherwise left out."""
    from bench import plugins

    for broken in plugins.load(files):
        said = f"bench: warning: {broken.origin} was not loaded ({broken.error}); `bench list` shows more"
        print(said, file=sys.stderr)
