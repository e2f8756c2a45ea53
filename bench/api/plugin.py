"""The common base class of attacks, defenses, evaluators and data sets."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Base class of a plugin's parameters: frozen, with a description for every field; unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plugin:
    """Base class of plugins.

    Attributes
    ----------
    name : str
        Set by registration.
    version : str
        Raise it with every change that alters numbers: it is part of a run's key.
    citations : tuple of str
        The papers that it implements: BibTeX entries, or keys of `bench/references.bib`. Not inherited.
    recipes : tuple of str
        TOML files next to the plugin's, available as recipes by name; a data set uses the one of its own name. Not inherited.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    Params: ClassVar[type[Params]] = Params
    citations: ClassVar[tuple[str, ...]] = ()
    recipes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    @classmethod
    def supports(cls, spec: Any) -> str | None:
        """Why the plugin cannot run the cell `spec` (a `bench.config.RunSpec`); None if it can."""
        return None

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        """Parameters for the contract tests, which run on a small data set."""
        return {}
