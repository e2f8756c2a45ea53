"""Checks that a suite's methods are registered and have the options that it sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError, did_you_mean
from bench.matrix.expand import NO_ATTACK
from bench.registry import Registry, attacks, defenses
from bench.suites.parts import AttackVariant, DefenseVariant
from bench.suites.suite import PRINTED_ONLY, Condition, Suite

Variant = AttackVariant | DefenseVariant


def check(suite: Suite) -> None:
    """Raise UserError naming the file, and the row and column or the section, with the first problem."""
    for where, condition in _located(suite):
        for kind, registry, variants, declared in _kinds(suite):
            name = getattr(condition, kind)
            if name not in variants:
                _check_name(f"--suite {suite.cli_name}: {where}", name, registry, declared, variants)
    for kind, registry, variants, declared in _kinds(suite):
        for name, variant in variants.items():
            where = f'--suite {suite.cli_name}: [{kind}s."{name}"]'
            _check_name(f"{where} plugin", variant.plugin, registry, declared, {})
            if variant.plugin in registry.names():
                _check_options(where, variant, registry)


def missing_plugins(suite: Suite, condition: Condition) -> list[str]:
    """The methods of a condition that no plugin provides."""
    attack, defense = suite.plugins_of(condition)
    return [name for registry, name in ((attacks, attack), (defenses, defense)) if not _is_registered(registry, name)]


def _located(suite: Suite) -> Iterator[tuple[str, Condition]]:
    yield from ((where, cell.condition) for where, cell in suite.labelled_cells() if cell.metric != PRINTED_ONLY)
    yield from ((f"runs, entry {number}", suite.condition(each)) for number, each in enumerate(suite.runs, 1))


def _kinds(suite: Suite) -> Iterator[tuple[str, Registry[Any], Mapping[str, Variant], tuple[str, ...]]]:
    yield "attack", attacks, suite.attacks, suite.unsupported.attacks
    yield "defense", defenses, suite.defenses, suite.unsupported.defenses


def _is_registered(registry: Registry[Any], name: str) -> bool:
    return name in registry.names() or (registry is attacks and name == NO_ATTACK)


def _check_name(
    where: str, name: str, registry: Registry[Any], declared: tuple[str, ...], variants: Mapping[str, Variant]
) -> None:
    if not _is_registered(registry, name) and name not in declared:
        near = did_you_mean(name, [*registry.names(), *variants])
        raise UserError(
            f"{where}: unknown {registry.kind} '{name}' ({near}); if no plugin provides it, declare it: "
            f'[unsupported] {registry.kind}s = ["{name}"]'
        )


def _check_options(where: str, variant: Variant, registry: Registry[Any]) -> None:
    plugin = registry[variant.plugin].plugin
    fields = plugin.Params.model_fields
    shares = variant.shares if isinstance(variant, DefenseVariant) else {}
    scaled = variant.scaled if isinstance(variant, DefenseVariant) else {} if variant.rate is None else {"rate": variant.rate}
    for key, options in {"set": variant.set, "shares": shares, "scaled": scaled}.items():
        for option in options:
            if option not in fields:
                raise UserError(f"{where} {key}: {variant.plugin} has no option '{option}'; {did_you_mean(option, fields)}")
            if key != "set" and type(fields[option].default) not in (int, float):
                raise UserError(f"{where} {key}: {option} of {variant.plugin} is not a number; give its value under set")
            if key == "scaled" and not fields[option].default:
                raise UserError(
                    f"{where} {key}: {option} of {variant.plugin} is 0 by default and cannot be scaled; give it under set"
                )
    try:
        plugin.Params.model_validate(variant.set)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = ".".join(map(str, first["loc"]))
        raise UserError(f"{where} set: {option}: {first['msg']}, got {first.get('input')!r}") from None
