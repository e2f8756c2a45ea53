"""Which warnings reach the terminal."""

from __future__ import annotations

import sys
import warnings


def quiet_libraries() -> None:
    """Hide the warnings of libraries, but not those of a --plugin FILE; `python -W` overrides both."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module="bench_plugin_")
