"""Which runs stand in the cells of a suite: what requests of a results folder say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.canonical import identity
from bench.matrix.schema import AskedSuite, RequestRecord
from bench.reports.labels import short_hash
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
        return f"{self.suite.name}-{short_hash(identity([self.instead, self.options]))}"

    @property
    def subtitle(self) -> str:
        where = f"measured on {self.instead} in place of the paper's data" if self.instead else "on the paper's data"
        return " · ".join([where, *self.options])

    def why_not(self, arm: Arm) -> str:
        """Why an arm has no runs."""
        if self.asked and arm.id in self.reasons:
            return self.reasons[arm.id]
        return f"not asked for yet; `bench run --suite {self.suite.name}` runs it"


def editions_of(requests: Sequence[RequestRecord], wanted: Iterable[str] = ()) -> list[Edition]:
    """The editions on record in the paper's order; with `wanted` those suites alone, and each of them at least once."""
    suites = chosen(wanted or names())
    found: dict[tuple[str, str], Edition] = {}
    for request in requests:
        if request.suite and request.suite.name in {suite.name for suite in suites}:
            _collect(found, request.suite)
    editions = []
    for suite in suites:
        own = [found[key] for key in sorted(found) if key[0] == suite.name]
        editions += own or ([Edition(suite)] if wanted else [])
    return editions


def _collect(found: dict[tuple[str, str], Edition], part: AskedSuite) -> None:
    """Add a request to the edition that it belongs to: the same suite with other seeds."""
    options = [f"model {part.model}"] if part.model else []
    options += [part.precision] if part.precision else []
    options += [str(option) for option in part.options]
    key = part.name, identity([part.instead, options])
    new = Edition(chosen([part.name])[0], part.instead, tuple(options), asked=True)
    edition = found.setdefault(key, new)
    for arm, keys in part.runs.items():
        known = edition.runs.setdefault(arm, [])
        known += [run for run in keys if run not in known]
    edition.reasons.update(part.reasons)
