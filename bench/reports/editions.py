"""Which runs stand in the cells of a suite: what requests of a results folder say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.reports.labels import short_hash
from bench.reports.records import Record, canonical
from bench.suites.suite import Arm, Suite, chosen, names


@dataclass(frozen=True)
class Edition:
    """A suite as it was run: on the paper's data or in its place, with certain options."""

    suite: Suite
    instead: str | None = None
    options: tuple[str, ...] = ()
    runs: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    asked: bool = False

    @property
    def id(self) -> str:
        if not self.instead and not self.options:
            return self.suite.name
        return f"{self.suite.name}-{short_hash(canonical([self.instead, self.options]))}"

    @property
    def subtitle(self) -> str:
        where = f"measured on {self.instead} in place of the paper's data" if self.instead else "on the paper's data"
        return " · ".join([where, *self.options])

    def why_not(self, arm: Arm) -> str:
        """Why an arm has no runs."""
        if self.asked and arm.id in self.reasons:
            return self.reasons[arm.id]
        return f"not asked for yet; `bench run --suite {self.suite.name}` runs it"


def editions_of(requests: Sequence[Record], wanted: Iterable[str] = ()) -> list[Edition]:
    """The editions on record in the paper's order; with `wanted` those suites alone, and each of them at least once."""
    suites = chosen(wanted or names())
    found: dict[tuple[str, str], Edition] = {}
    for request in requests:
        part = request.get("suite")
        if isinstance(part, dict) and part.get("name") in {suite.name for suite in suites}:
            _collect(found, part)
    editions = []
    for suite in suites:
        own = [found[key] for key in sorted(found) if key[0] == suite.name]
        editions += own or ([Edition(suite)] if wanted else [])
    return editions


def _collect(found: dict[tuple[str, str], Edition], part: dict[str, Any]) -> None:
    """Add a request to the edition that it belongs to: the same suite with other seeds."""
    options = [f"model {part['model']}"] if part.get("model") else []
    options += [str(part["precision"])] if part.get("precision") else []
    options += [str(option) for option in part.get("options") or []]
    key = str(part["name"]), canonical([part.get("instead"), options])
    new = Edition(chosen([key[0]])[0], part.get("instead"), tuple(options), asked=True)
    edition = found.setdefault(key, new)
    for arm, keys in (part.get("runs") or {}).items():
        known = edition.runs.setdefault(arm, [])
        known += [run for run in keys if run not in known]
    edition.reasons.update(part.get("reasons") or {})
