"""What the code here makes of a recorded specification: the same, or the record is of other code or other data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench import sources
from bench.api import Defense, Plugin
from bench.canonical import canonical, without_nulls
from bench.config import DataSpec, PluginSpec, RunSpec, Settings
from bench.interface.options import parse_settings
from bench.matrix.expand import UNDEFENDED, controls
from bench.matrix.schema import EvalRecord, MetricRecord, PluginRecord, RunRecord, SpecRecord
from bench.models import factory
from bench.registry import Registry, attacks, defenses, evaluators
from bench.submission.flaw import Flaw
from bench.training.engagement import engagement

_TRAINED_HERE = ("undefended", "clean")


def spec_of(file: str, claimed: SpecRecord, data: DataSpec) -> RunSpec:
    """A recorded specification.

    Parameters
    ----------
    file : str
        The record's, for messages.
    claimed : SpecRecord
    data : DataSpec
        The data set that its parameters open here.

    Raises
    ------
    Flaw
        If engine, model, data set or a method are not what they are here for these parameters.
    """
    spec = _validated(file, claimed)
    wanted = {
        "engine": sources.engine(),
        "data": data,
        "model": spec.model.model_copy(update={"config": factory.identity(spec.model.name)}),
        "attack": _attack(file, spec.attack) if spec.attack else None,
        "defense": _defense(file, spec.defense),
    }
    for part, value in wanted.items():
        own = getattr(spec, part)
        if own != value:
            raise Flaw(file, f"its {part} is {_differing(own, value)}")
    return spec


def settings_of(file: str, claimed: SpecRecord, measures: Mapping[str, PluginSpec]) -> Settings:
    """Settings with the data options and model of a specification, and with the options of these evaluators."""
    spec = _validated(file, claimed)
    if spec.model.name not in factory.model_names():  # open_clip would fetch other names from a hub, or read a folder
        raise Flaw(file, f"no model is named {spec.model.name[:60]!a}")
    options = {name: _given(each.params) for name, each in measures.items()}
    tree = {"data": _given(spec.data.params), "evaluator": options}
    return Settings(spec.data.name, parse_settings(tree), spec.model.name)


def _validated(file: str, claimed: SpecRecord) -> RunSpec:
    try:
        return RunSpec.model_validate(claimed.dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise Flaw(file, f"spec.{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None


def _own(file: str, registry: Registry[Any], spec: PluginSpec | PluginRecord) -> tuple[PluginSpec, type[Plugin], Any]:
    """A method as it is here, with the recorded parameters: its specification, class and parameters."""
    if spec.name not in registry.names():
        raise Flaw(file, f"there is no {registry.kind} '{spec.name}' here")
    entry = registry[spec.name]
    given = spec.params if isinstance(spec, PluginSpec) else spec.params.dump()
    try:
        params = entry.plugin.Params.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Flaw(file, f"{spec.name}.{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
    return PluginSpec(**entry.identity(), params=params.model_dump(mode="json")), entry.plugin, params


def _attack(file: str, spec: PluginSpec) -> PluginSpec:
    own, plugin, params = _own(file, attacks, spec)
    crafted = plugin(params).needs_surrogate()  # type: ignore[attr-defined,call-arg]
    return own.model_copy(update={"builds_on": _base(file, spec, UNDEFENDED)}) if crafted else own


def _defense(file: str, spec: PluginSpec) -> PluginSpec:
    own, plugin, params = _own(file, defenses, spec)
    assert issubclass(plugin, Defense)
    if plugin in [entry.plugin for entry in controls()] and spec.beside:
        return own.model_copy(update={"params": {}, "beside": _defense(file, spec.beside)})
    base = plugin.starts_from() or (UNDEFENDED if plugin.selects_with(params) in _TRAINED_HERE else None)
    return own.model_copy(update={"builds_on": _base(file, spec, base)}) if base else own


def _base(file: str, spec: PluginSpec, name: str) -> PluginSpec:
    if spec.builds_on is None or spec.builds_on.name != name:
        raise Flaw(file, f"{spec.name} builds on {name}, which its spec does not say")
    return _defense(file, spec.builds_on)


def evaluator_of(file: str, record: EvalRecord) -> PluginSpec:
    """The evaluator of a record. Raises Flaw unless it, and the metrics declared in the record, are what they are here."""
    claimed = record.evaluator or PluginRecord(name="")
    own, plugin, _ = _own(file, evaluators, claimed)
    if (claimed.version, claimed.source, without_nulls(claimed.params.dump())) != (
        own.version,
        own.source,
        without_nulls(own.params),
    ):
        raise Flaw(file, f"measured by {_differing(own.model_copy(update=claimed.dump()), own)}")
    here = [MetricRecord.of(metric.model_dump()) for metric in plugin.metrics]  # type: ignore[attr-defined]
    if [_declared(each) for each in record.metrics] != [_declared(each) for each in here]:
        raise Flaw(file, f"declares other metrics than {own.name} has")
    return own


def _declared(metric: MetricRecord) -> tuple[str, ...]:
    return metric.name, metric.unit, metric.better, metric.role


def check_engagement(file: str, record: RunRecord, spec: RunSpec) -> None:
    """Raise Flaw unless the record says of its own telemetry what the defense's limits say."""
    plugin = defenses[spec.defense.name].plugin
    try:
        limits = plugin.limits(plugin.Params.model_validate(spec.defense.params))
        here = [bool(limit["engaged"]) for limit in engagement(limits, [curve.dump() for curve in record.curves])]
    except TypeError:
        raise Flaw(file, "its telemetry is not numbers") from None
    if [limit.engaged for limit in record.engagement] != here:
        raise Flaw(file, "says otherwise whether the defense engaged than its telemetry")


def _differing(own: Any, here: Any) -> str:
    """The first difference between a part of a specification and what it is here."""
    if isinstance(own, DataSpec) and isinstance(here, DataSpec) and own.fingerprint != here.fingerprint:
        return f"{own.name} with the fingerprint {own.fingerprint}, here {here.fingerprint} with the same options"
    if isinstance(own, PluginSpec) and isinstance(here, PluginSpec):
        for field in ("version", "source"):
            if getattr(own, field) != getattr(here, field):
                return f"{own.name} of {field} {str(getattr(own, field))[:16]}, here {str(getattr(here, field))[:16]}"
    texts = [canonical(each.model_dump(mode="json")) if hasattr(each, "model_dump") else str(each) for each in (own, here)]
    return f"{texts[0][:120]}, here {texts[1][:120]}"


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
