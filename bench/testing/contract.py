"""The contract of plugins as check functions, run by `bench check FILE` and by the tests of the built-in plugins alike.

A check raises AssertionError with a sentence that says what is wrong; any other exception is raised by the plugin itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench import plugins, recipe, references
from bench.api import Attack, Dataset, Defense, Evaluator, Plugin
from bench.errors import UserError
from bench.registry import KINDS, Entry
from bench.testing import attack_checks, dataset_checks, defense_checks, evaluator_checks
from bench.testing.small import params_of, spec_of, test_params

_YEAR = re.compile(r"\([^()]*\b(?:19|20)\d\d[a-z]?\b[^()]*\)")
_RESERVED = ("all", "none")


@dataclass(frozen=True)
class Check:
    """One check. `run()`, or calling the check, raises AssertionError if the contract is violated."""

    name: str
    run: Callable[[], None]

    @property
    def __name__(self) -> str:
        """The name that pytest shows."""
        return self.name

    def __call__(self) -> None:
        self.run()


def checks(plugin: type[Plugin]) -> list[Check]:
    """All checks of a plugin class, for `pytest.mark.parametrize`. Raises UserError if it is not registered."""
    plugins.load()
    found = [entry for registry in KINDS.values() for entry in registry if entry.plugin is plugin]
    if not found:
        raise UserError(f'{plugin.__name__} is not registered; put a decorator such as @register_defense("name") on the class')
    return list(checks_for(found[0]))


def checks_for(entry: Entry[Any]) -> Iterator[Check]:
    """Yield all checks that apply to a plugin, the cheap ones first."""
    for check in (*COMMON, *_checks_of_kind(entry)):
        yield Check(check.__name__.removeprefix("check_"), partial(check, entry))


def _checks_of_kind(entry: Entry[Any]) -> tuple[Callable[[Entry[Any]], None], ...]:
    kinds: dict[type, tuple[Callable[[Entry[Any]], None], ...]] = {
        Attack: attack_checks.CHECKS,
        Defense: defense_checks.CHECKS,
        Evaluator: evaluator_checks.CHECKS,
        Dataset: dataset_checks.CHECKS,
    }
    return next(checks for kind, checks in kinds.items() if issubclass(entry.plugin, kind))


def check_name(entry: Entry[Any]) -> None:
    name = entry.plugin.name
    assert re.fullmatch(r"[\w-]+", name), (
        f"the name {name!r} cannot be used in a list or with --set: use letters, digits, _ and -"
    )
    assert name not in _RESERVED, f"the name '{name}' is reserved on the command line"


def check_docstring(entry: Entry[Any]) -> None:
    doc = vars(entry.plugin).get("__doc__") or ""
    assert doc.strip(), "the class has no docstring of its own"
    first = doc.strip().partition("\n")[0]
    assert first.endswith("."), f"the docstring's first line is not a complete sentence: {first!r}"
    outside = re.sub(r"\([^()]*\)", "", first)
    assert not re.search(r"[.!?]\s+[A-Z]", outside), f"the docstring's first line is more than one sentence: {first!r}"


def check_source_is_cited(entry: Entry[Any]) -> None:
    if not issubclass(entry.plugin, Dataset):
        doc = vars(entry.plugin).get("__doc__") or ""
        assert _YEAR.search(doc), "the docstring cites no source: name one with its year in parentheses, as in (Gu et al. 2017)"


def check_citations_are_bibtex(entry: Entry[Any]) -> None:
    try:
        references.for_plugin(entry.plugin)
    except UserError as error:
        raise AssertionError(str(error)) from error


def check_recipes_are_read(entry: Entry[Any]) -> None:
    for file in vars(entry.plugin).get("recipes", ()):
        try:
            recipe.load(str(Path(str(inspect.getsourcefile(entry.plugin))).with_name(file)))
        except UserError as error:
            raise AssertionError(str(error)) from error


def check_version(entry: Entry[Any]) -> None:
    version = entry.plugin.version
    assert isinstance(version, str), f"version is {version!r}; it must be a string"
    assert version, "version is empty"


def check_params_are_described(entry: Entry[Any]) -> None:
    missing = list(_undescribed(entry.plugin.Params))
    assert not missing, f"parameters without a description: {', '.join(missing)}"


def _undescribed(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not field.description:
            yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _undescribed(field.annotation, f"{prefix}{name}.")


def check_params_have_defaults(entry: Entry[Any]) -> None:
    missing = [name for name, field in entry.plugin.Params.model_fields.items() if field.is_required()]
    assert not missing, f"parameters without a default: {', '.join(missing)}"
    entry.plugin.Params()


def check_test_params_are_accepted(entry: Entry[Any]) -> None:
    try:
        params_of(entry)
    except ValidationError as error:
        raise AssertionError(f"test_params() {test_params(entry)} are rejected by Params: {error}") from error


def check_unknown_params_are_refused(entry: Entry[Any]) -> None:
    try:
        params_of(entry, no_such_parameter=1)
    except ValidationError:
        return
    raise AssertionError("Params accepts an unknown parameter; derive it from bench.api.Params and keep its model_config")


def check_params_survive_json(entry: Entry[Any]) -> None:
    params = params_of(entry)
    again = entry.plugin.Params.model_validate_json(params.model_dump_json())
    assert again == params, f"parameters change when they are written to a record and read back: {params!r} became {again!r}"


def check_supports(entry: Entry[Any]) -> None:
    answer = entry.plugin.supports(spec_of(entry))
    assert answer is None or (isinstance(answer, str) and answer), (
        f"supports() returned {answer!r}; it must return None or a reason"
    )


COMMON: tuple[Callable[[Entry[Any]], None], ...] = (
    check_name,
    check_docstring,
    check_source_is_cited,
    check_citations_are_bibtex,
    check_recipes_are_read,
    check_version,
    check_params_are_described,
    check_params_have_defaults,
    check_test_params_are_accepted,
    check_unknown_params_are_refused,
    check_params_survive_json,
    check_supports,
)
