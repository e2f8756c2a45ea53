"""Which runs stand in the cells of a suite: what requests of a results folder say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.canonical import identity
from bench.matrix.schema import AskedSuite, RequestRecord
from bench.reports.labels import FINE_TUNED, short_hash, weights_name
from bench.suites.library import from_record, load, names, resolve
from bench.suites.suite import Condition, Suite

_WEIGHTS = "model.pretrained="
"""The option of a request that the digests of its weights stand for."""


@dataclass(frozen=True)
class Edition:
    """A suite as it was run: on the paper's data or on a replacement, with certain options."""

    suite: Suite
    replacement: str | None = None
    options: tuple[str, ...] = ()
    runs: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    asked: bool = False

    @property
    def id(self) -> str:
        if not self.replacement and not self.options:
            return self.suite.name
        return f"{self.suite.name}-{short_hash(identity([self.replacement, self.options]))}"

    @property
    def subtitle(self) -> str:
        where = f"measured on {self.replacement} in place of the paper's data" if self.replacement else "on the paper's data"
        return " · ".join([where, *self.options])

    def why_not(self, condition: Condition) -> str:
        """Why a condition has no runs."""
        if self.asked and condition.id in self.reasons:
            return self.reasons[condition.id]
        return f"not asked for yet; `bench run --suite {self.suite.asked_as}` runs it"


def editions_of(requests: Sequence[RequestRecord], wanted: Iterable[str] = ()) -> list[Edition]:
    """The editions on record in the paper's order; with `wanted` those suites alone, and each of them at least once.

    Suites of files come last, by name: those that requests hold, or the files of `wanted`. Raises UserError for an unknown one.
    """
    asked = [request.suite for request in requests if request.suite]
    kept = _kept(asked)
    suites = resolve(wanted, kept) if wanted else [*map(load, names()), *kept]
    several = Counter(suite.name for suite in suites)
    editions = []
    for suite in suites:
        own = _editions(suite, asked) or ([Edition(suite)] if wanted else [])
        if several[suite.name] > 1:
            own = [replace(each, options=(*each.options, f"version {suite.digest[:6]}")) for each in own]
        editions += own
    return editions


def _kept(asked: Iterable[AskedSuite]) -> list[Suite]:
    """The suites of files that requests hold, each version once."""
    suites = (from_record(part.name, part.content) for part in asked if part.content)
    return list(
        {(suite.name, suite.digest): suite for suite in sorted(suites, key=lambda each: (each.name, each.digest))}.values()
    )


def _editions(suite: Suite, asked: Iterable[AskedSuite]) -> list[Edition]:
    """The suite with each replacement and options that it was asked for with; other seeds add to the same edition.

    An earlier version of its file gives the runs of the conditions that it runs in the same way.
    """
    found: dict[str, Edition] = {}
    for part in asked:
        if part.name != suite.name or bool(part.content) == suite.builtin:
            continue
        options = [f"model {part.model}"] if part.model else []
        options += [part.precision] if part.precision else []
        options += [f"recipe {part.recipe}"] if part.recipe else []
        options += [f"{FINE_TUNED} from weights {weights_name(weights)}" for weights in part.weights]
        options += [str(option) for option in part.options if not str(option).startswith(_WEIGHTS)]
        new = Edition(suite, part.instead, tuple(options), asked=True)
        edition = found.setdefault(identity([new.replacement, options]), new)
        _collect(edition, part)
    return [found[key] for key in sorted(found)]


def _collect(edition: Edition, part: AskedSuite) -> None:
    """Add the runs of a request to the edition that it belongs to."""
    suite, there = edition.suite, edition.replacement
    known = from_record(suite.name, part.content) if part.content else suite
    changed = {each.id for each in suite.conditions() if known.settings_of(each, there) != suite.settings_of(each, there)}
    for condition, keys in part.runs.items():
        if condition not in changed:
            runs = edition.runs.setdefault(condition, [])
            runs += [run for run in keys if run not in runs]
    edition.reasons.update({key: reason for key, reason in part.reasons.items() if key not in changed})
