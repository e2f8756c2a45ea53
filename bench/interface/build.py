"""Builds the matrices of a run from its options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from bench import recipe as recipes
from bench.console import print_plain
from bench.errors import UserError
from bench.interface.options import RunOptions
from bench.interface.values import require_names, split_data_root

if TYPE_CHECKING:
    from bench.matrix.expand import Matrix
    from bench.matrix.request_schema import RequestRecord


class RunPlan(NamedTuple):
    """The matrices of this shard, and the requests that the report is made from."""

    matrices: Sequence[Matrix]
    requests: Sequence[RequestRecord]


def build_matrices(options: RunOptions, console: Console) -> RunPlan:
    """Expand the options, and print what cannot be run or read. Raises UserError."""
    from bench.matrix.shard import Shard

    shard = Shard.parse(options.shard or "1/1")
    plan = _from_suites(options, console) if options.suite else _from_options(options)
    matrices = shard.of(plan.matrices)
    for matrix in matrices:
        for line in (*_downstream_lines(matrix), *_late_targets(matrix)):
            print_plain(console, line)
    return RunPlan(matrices, plan.requests)


def _from_options(options: RunOptions) -> RunPlan:
    from bench.matrix.expand import MatrixRequest, expand

    attacks, defenses = require_names("--attack", options.attack), require_names("--defense", options.defense)
    matrix = expand(MatrixRequest(attacks=attacks, defenses=defenses, **_common(options, data="scenes")))
    return RunPlan([matrix], [matrix.as_request()])


def _from_suites(options: RunOptions, console: Console) -> RunPlan:
    """Expand suites, and print which conditions cannot be run."""
    from bench.matrix.suites import SuiteRequest, expand_suites
    from bench.suites.library import resolve

    for kind in ("attack", "defense"):
        if getattr(options, kind) != RunOptions.model_fields[kind].default:
            raise UserError(f"--{kind} and --suite exclude each other: a suite names its own {kind}s")
    plan = expand_suites(SuiteRequest(suites=resolve(options.suite), **_common(options, data=None)))
    for each in plan.suites:
        count = f"{len(each.cells)} cells" if each.suite.conditions() else "nothing to run"
        print_plain(console, f"{each.suite.name}: {each.suite.title}: {count}")
        for reason in dict.fromkeys(each.reasons.values()):
            conditions = sum(reason == other for other in each.reasons.values())
            print_plain(console, f"    {conditions} without runs: {reason}")
    return RunPlan(plan.matrices, plan.requests)


def _common(options: RunOptions, data: str | None) -> dict[str, Any]:
    """Fields of both kinds of request; `data` is the default data set."""
    return {
        **data_and_recipe(options, data),
        "downstream_root": options.downstream_root,
        "evaluators": options.evaluator,
        "model": options.model,
        "seeds": options.seeds,
        "precision": None if options.precision == "auto" else options.precision,
        "options": options.settings,
        "controls": options.controls,
    }


def data_and_recipe(options: RunOptions, data: str | None) -> dict[str, Any]:
    """Data set, its folder, and recipe; `data` is the default data set."""
    data, root = split_data_root(options.data, options.data_root) if options.data else (data, options.data_root)
    return {"data": data, "data_root": root, "recipe": recipes.load(options.recipe) if options.recipe else None}


def _downstream_lines(matrix: Matrix) -> Iterator[str]:
    """The sets of --downstream-root, and which were skipped or are incomplete."""
    sets = matrix.workspace.downstream
    if sets.tasks:
        yield f"downstream: {', '.join(sets.fingerprints)}"
    for reason in dict.fromkeys(sets.skipped.values()):
        names = [name for name, why in sets.skipped.items() if why == reason]
        yield f"downstream, skipped: {', '.join(names)} ({reason})"
    for name, lack in sets.partial.items():
        yield f"downstream, incomplete: {name} ({lack})"


def _late_targets(matrix: Matrix) -> Iterator[str]:
    """Which poisons of the matrix the model does not read."""
    from bench.matrix.unread import late_targets

    workspace = matrix.workspace
    poisons = (workspace.poison(cell.spec) for cell in matrix.cells if cell.spec.attack)
    for attack, plan, ctx in {id(poison): poison for poison in poisons}.values():
        yield from late_targets(attack, plan, ctx, workspace.model.name)
