"""`bench run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench.cli import execute
from bench.cli.options import chosen_device, load_plugins, names, out_option, plugin_option, seeds, some_names
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.matrix.expand import Matrix

Work = tuple[Sequence["Matrix"], Sequence[dict[str, Any]]]
_DEFAULTS = {"attacks": ("badnet,tdpa",), "defenses": ("clip",), "evaluators": ("asr,zero_shot,linear_probe",)}


@click.command("run")
@click.option(
    "--defense", "defenses", multiple=True, default=_DEFAULTS["defenses"], show_default=True, metavar="LIST", help="Or all."
)
@click.option(
    "--attack", "attacks", multiple=True, default=_DEFAULTS["attacks"], show_default=True, metavar="LIST", help="Or all, none."
)
@click.option("--suite", "suites", multiple=True, metavar="LIST", help="Tables and figures of the paper, e.g. table1. Or all.")
@click.option("--data", metavar="NAME", help="Pre-training data set, scenes by default; with --suite in place of the paper's.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where the data set lies.")
@click.option(
    "--downstream-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Evaluate on the downstream sets in DIR/NAME too, e.g. DIR/cifar10.",
)
@click.option(
    "--evaluator",
    "evaluators",
    multiple=True,
    default=_DEFAULTS["evaluators"],
    show_default=True,
    metavar="LIST",
    help="Or all.",
)
@click.option("--model", metavar="NAME", help="open_clip architecture; the data set's recipe by default.")
@click.option("--seeds", "seed_list", multiple=True, default=["0"], show_default=True, metavar="LIST", help="E.g. 0,1,2.")
@click.option("--set", "options", multiple=True, metavar="PATH=VALUE", help="Change an option, e.g. train.epochs=2.")
@plugin_option
@out_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="auto: the recipe's."
)
@click.option(
    "--track",
    type=click.Choice(["tensorboard", "wandb"]),
    help="Write the curves for it too, in DIR/track of --out; wandb stays offline.",
)
@click.option("--dry-run", is_flag=True, help="Show the cells, what is on record, and an estimate of time; train nothing.")
@click.option("--retry-failed", is_flag=True, help="Try cells again that failed before.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="MINUTES",
    help="Time between checkpoints; 0 is one after every step.",
)
def command(
    defenses: tuple[str, ...],
    attacks: tuple[str, ...],
    suites: tuple[str, ...],
    data: str | None,
    data_root: Path | None,
    downstream_root: Path | None,
    evaluators: tuple[str, ...],
    model: str | None,
    seed_list: tuple[str, ...],
    options: tuple[str, ...],
    plugins: tuple[str, ...],
    out: Path,
    device: str,
    precision: str,
    track: str | None,
    dry_run: bool,
    retry_failed: bool,
    checkpoint_minutes: float,
) -> int:
    """Train and evaluate a matrix of attacks x defenses, then show the table.

    Options that take a LIST take names with commas between, and can be repeated.

    With no option: plain CLIP against BadNet and TDPA on the embedded data set, a few minutes on two cores. Ctrl-C
    stops; the same command goes on from there.

    \b
    bench run --defense all --attack all --seeds 0,1,2
    bench run --data mscoco --data-root /data/coco --model RN50
    bench run --set attack.rate=0.002 --set train.epochs=4
    bench run --suite table1 --data scenes --dry-run
    """
    load_plugins(plugins)
    from bench.matrix.store import Store

    console = Console()
    target = chosen_device(device)
    wanted = names(suites)
    if wanted:
        _refuse_with_suites(attacks=attacks, defenses=defenses)
    shared: dict[str, Any] = {
        "evaluators": names(evaluators),
        "seeds": seeds(seed_list),
        "data_root": data_root,
        "downstream_root": downstream_root,
        "model": model,
        "precision": None if precision == "auto" else precision,
        "options": options,
    }
    if wanted:
        matrices, requests = _of_suites(wanted, data, shared, console)
    else:
        matrices, requests = _of_options(
            data or "scenes", some_names("--attack", attacks), some_names("--defense", defenses), shared
        )
    for matrix in matrices:
        for line in _downstream_lines(matrix):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        execute.show_plan(matrices, Store.open(out) if out.is_dir() else None, target, retry_failed, console)
        return 0
    checkpoint_seconds = 60 * checkpoint_minutes
    return execute.run(matrices, requests, Store.create(out), target, retry_failed, checkpoint_seconds, console, track)


def _of_options(data: str, attacks: list[str], defenses: list[str], shared: dict[str, Any]) -> Work:
    from bench.matrix.expand import Request, expand

    matrix = expand(Request(data=data, attacks=attacks, defenses=defenses, **shared))
    return [matrix], [matrix.as_request()]


def _of_suites(wanted: list[str], data: str | None, shared: dict[str, Any], console: Console) -> Work:
    """The matrices of suites; says which arms cannot be run, and why."""
    from bench.matrix.suites import SuiteRequest, expand_suites
    from bench.suites.suite import chosen

    plan = expand_suites(SuiteRequest(suites=chosen(wanted), data=data, **shared))
    for each in plan.suites:
        count = f"{len(each.cells)} cells" if each.suite.arms() else "nothing to run"
        console.print(f"{each.suite.name}: {each.suite.title}: {count}", markup=False, highlight=False, soft_wrap=True)
        for reason in dict.fromkeys(each.reasons.values()):
            arms = sum(reason == other for other in each.reasons.values())
            console.print(f"    {arms} without runs: {reason}", markup=False, highlight=False, soft_wrap=True)
    return plan.matrices, plan.requests


def _downstream_lines(matrix: Matrix) -> list[str]:
    """The sets of --downstream-root, those that are left out and why, and those that are not whole."""
    sets = matrix.workspace.downstream
    lines = [f"downstream: {', '.join(sets.fingerprints)}"] if sets.tasks else []
    for reason in dict.fromkeys(sets.skipped.values()):
        lines.append(
            f"downstream, skipped: {', '.join(name for name, why in sets.skipped.items() if why == reason)} ({reason})"
        )
    return lines + [f"downstream, not whole: {name} ({lack})" for name, lack in sets.partial.items()]


def _refuse_with_suites(**given: tuple[str, ...]) -> None:
    for name, values in given.items():
        if values != _DEFAULTS[name]:
            raise UserError(f"--{name.removesuffix('s')} and --suite exclude each other: a suite names its own {name}")
