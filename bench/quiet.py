"""Warning filters."""

from __future__ import annotations

import sys
import warnings


def quiet_libraries() -> None:
    """Hide warnings except those of a --plugin file; `python -W` overrides this."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module="bench_plugin_")
