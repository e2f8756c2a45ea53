"""What attacks, defenses, evaluators and data sets have in common."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Parameters of a plugin: frozen, every field documented, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plugin:
    """Base of every plugin.

    `name` is set by registration. Raise `version` whenever a change alters numbers: it is part of the identity of runs.
    `citations` are the papers that it implements: BibTeX entries, or keys of `bench/references.bib`. `recipes` are TOML files
    beside the class's own, which go by name then; a data set takes the one of its own name. Neither is inherited.
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
        """None where the plugin can run the cell `spec` (a `bench.config.RunSpec`), else the reason why not."""
        return None

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        """Parameters under which the contract tests run the plugin on a small data set."""
        return {}
