"""From the options of a run to the matrices that it settles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from bench import recipe as recipes
from bench.console import say
from bench.errors import UserError
from bench.interface.options import RunOptions
from bench.interface.values import data_and_root, some_names

if TYPE_CHECKING:
    from bench.matrix.expand import Matrix
    from bench.matrix.schema import RequestRecord


class Work(NamedTuple):
    """Matrices, of several shards those of this one, and the requests that the report is made from."""

    matrices: Sequence[Matrix]
    requests: Sequence[RequestRecord]


def planned(asked: RunOptions, console: Console) -> Work:
    """Resolve the options; says of suites and downstream sets what cannot be run, and why. Raises UserError."""
    from bench.matrix.shard import Shard

    part = Shard.parse(asked.shard or "1/1")
    work = _of_suites(asked, console) if asked.suite else _of_options(asked)
    matrices = part.of(work.matrices)
    for matrix in matrices:
        for line in _downstream_lines(matrix):
            say(console, line)
    return Work(matrices, work.requests)


def _of_options(asked: RunOptions) -> Work:
    from bench.matrix.expand import Request, expand

    attacks, defenses = some_names("--attack", asked.attack), some_names("--defense", asked.defense)
    matrix = expand(Request(attacks=attacks, defenses=defenses, **_common(asked, data="scenes")))
    return Work([matrix], [matrix.as_request()])


def _of_suites(asked: RunOptions, console: Console) -> Work:
    """The matrices of suites; says which conditions cannot be run, and why."""
    from bench.matrix.suites import SuiteRequest, expand_suites
    from bench.suites.library import resolve

    for kind in ("attack", "defense"):
        if getattr(asked, kind) != RunOptions.model_fields[kind].default:
            raise UserError(f"--{kind} and --suite exclude each other: a suite names its own {kind}s")
    plan = expand_suites(SuiteRequest(suites=resolve(asked.suite), **_common(asked, data=None)))
    for each in plan.suites:
        count = f"{len(each.cells)} cells" if each.suite.conditions() else "nothing to run"
        say(console, f"{each.suite.name}: {each.suite.title}: {count}")
        for reason in dict.fromkeys(each.reasons.values()):
            conditions = sum(reason == other for other in each.reasons.values())
            say(console, f"    {conditions} without runs: {reason}")
    return Work(plan.matrices, plan.requests)


def _common(asked: RunOptions, data: str | None) -> dict[str, Any]:
    """What both kinds of request have; `data` where no data set was given."""
    return {
        **data_and_recipe(asked, data),
        "downstream_root": asked.downstream_root,
        "evaluators": asked.evaluator,
        "model": asked.model,
        "seeds": asked.seeds,
        "precision": None if asked.precision == "auto" else asked.precision,
        "options": asked.settings,
        "controls": asked.controls,
    }


def data_and_recipe(asked: RunOptions, data: str | None) -> dict[str, Any]:
    """Data set, where it lies, and recipe; `data` where no data set was given."""
    data, root = data_and_root(asked.data, asked.data_root) if asked.data else (data, asked.data_root)
    return {"data": data, "data_root": root, "recipe": recipes.load(asked.recipe) if asked.recipe else None}


def _downstream_lines(matrix: Matrix) -> Iterator[str]:
    """The sets of --downstream-root, those that are left out and why, and those that are not whole."""
    sets = matrix.workspace.downstream
    if sets.tasks:
        yield f"downstream: {', '.join(sets.fingerprints)}"
    for reason in dict.fromkeys(sets.skipped.values()):
        left_out = [name for name, why in sets.skipped.items() if why == reason]
        yield f"downstream, skipped: {', '.join(left_out)} ({reason})"
    for name, lack in sets.partial.items():
        yield f"downstream, not whole: {name} ({lack})"
