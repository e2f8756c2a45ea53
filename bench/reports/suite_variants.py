"""Which runs belong to the cells of a suite, from the requests of a results folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.canonical import identity
from bench.matrix.request_schema import RequestedSuite, RequestRecord
from bench.reports.labels import FINE_TUNED, short_hash, weights_name
from bench.suites.library import from_record, load, names, resolve
from bench.suites.suite import Condition, Suite

_WEIGHTS = "model.pretrained="
"""The option of a request that the digests of its weights stand for."""


@dataclass(frozen=True)
class SuiteVariant:
    """A suite as it was run: on the paper's data or on a replacement, and with certain options.

    Attributes
    ----------
    suite : Suite
        The suite.
    replacement : str or None
        The data set used in place of the paper's.
    options : tuple of str
        Options that differ from the defaults, for display.
    runs : dict of str to list of str
        Run keys, by condition.
    reasons : dict of str to str
        Why a condition was not run, by condition.
    asked : bool
        Whether it was requested at all.
    """

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
        """The reason why a condition has no runs."""
        if self.asked and condition.id in self.reasons:
            return self.reasons[condition.id]
        return f"not requested yet; run `bench run --suite {self.suite.cli_name}`"


def variants_of(requests: Sequence[RequestRecord], wanted: Iterable[str] = ()) -> list[SuiteVariant]:
    """The suite variants that were requested: built-in suites in the paper's order, then suites from files, by name.

    With `wanted`, only these suites (names or files), each at least once. Raises UserError for an unknown one.
    """
    asked = [request.suite for request in requests if request.suite]
    stored = _stored(asked)
    suites = resolve(wanted, stored) if wanted else [*map(load, names()), *stored]
    several = Counter(suite.name for suite in suites)
    variants = []
    for suite in suites:
        own = _variants(suite, asked) or ([SuiteVariant(suite)] if wanted else [])
        if several[suite.name] > 1:
            own = [replace(each, options=(*each.options, f"version {suite.digest[:6]}")) for each in own]
        variants += own
    return variants


def _stored(asked: Iterable[RequestedSuite]) -> list[Suite]:
    """The suites from files that are stored in requests, each version once."""
    suites = (from_record(part.name, part.content) for part in asked if part.content)
    return list(
        {(suite.name, suite.digest): suite for suite in sorted(suites, key=lambda each: (each.name, each.digest))}.values()
    )


def _variants(suite: Suite, asked: Iterable[RequestedSuite]) -> list[SuiteVariant]:
    """One variant of the suite for each replacement and options that were requested; seeds are collected in one variant.

    Requests of an earlier version of its file contribute the conditions that have not changed.
    """
    found: dict[str, SuiteVariant] = {}
    for part in asked:
        if part.name != suite.name or bool(part.content) == suite.builtin:
            continue
        options = [f"model {part.model}"] if part.model else []
        options += [part.precision] if part.precision else []
        options += [f"recipe {part.recipe}"] if part.recipe else []
        options += [f"{FINE_TUNED} from weights {weights_name(weights)}" for weights in part.weights]
        options += [str(option) for option in part.options if not str(option).startswith(_WEIGHTS)]
        new = SuiteVariant(suite, part.instead, tuple(options), asked=True)
        variant = found.setdefault(identity([new.replacement, options]), new)
        _collect(variant, part)
    return [found[key] for key in sorted(found)]


def _collect(variant: SuiteVariant, part: RequestedSuite) -> None:
    """Add the runs of a request to its variant."""
    suite, there = variant.suite, variant.replacement
    known = from_record(suite.name, part.content) if part.content else suite
    changed = {each.id for each in suite.conditions() if known.settings_of(each, there) != suite.settings_of(each, there)}
    for condition, keys in part.runs.items():
        if condition not in changed:
            runs = variant.runs.setdefault(condition, [])
            runs += [run for run in keys if run not in runs]
    variant.reasons.update({key: reason for key, reason in part.reasons.items() if key not in changed})
