"""bench: attacks x defenses x data sets x evaluators for CLIP-like models trained on web data.

`run` runs a matrix, `load_results` reads a results folder as a data frame, `evaluate` evaluates a model in memory. They are
imported at first use, so that `import bench` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.errors import Stopped, UserError

if TYPE_CHECKING:
    from bench.interface.config_file import load_config
    from bench.interface.evaluate import evaluate, load_model
    from bench.interface.external import evaluate_checkpoint
    from bench.interface.predictions import load_predictions
    from bench.interface.results import load_results
    from bench.interface.run import Results, run

__version__ = "0.2.0"
__all__ = [
    "Results",
    "Stopped",
    "UserError",
    "evaluate",
    "evaluate_checkpoint",
    "load_config",
    "load_model",
    "load_predictions",
    "load_results",
    "run",
]

_MODULES = {
    "Results": "run",
    "evaluate": "evaluate",
    "evaluate_checkpoint": "external",
    "load_config": "config_file",
    "load_model": "evaluate",
    "load_predictions": "predictions",
    "load_results": "results",
    "run": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bench.interface.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
