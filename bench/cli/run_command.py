"""`bench run`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from bench import keys
from bench.cli.options import load_plugins, names, out_option, plugin_option, seeds, some_names
from bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from bench.matrix.expand import Matrix
    from bench.matrix.store import Store


@click.command("run")
@click.option("--defense", "defenses", multiple=True, default=["clip"], show_default=True, metavar="LIST", help="Or all.")
@click.option(
    "--attack", "attacks", multiple=True, default=["badnet,tdpa"], show_default=True, metavar="LIST", help="Or all, none."
)
@click.option("--data", default="scenes", show_default=True, metavar="NAME", help="Pre-training data set.")
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
    default=["asr,zero_shot,linear_probe"],
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
@click.option("--dry-run", is_flag=True, help="Show the cells, what is on record, and an estimate of time; train nothing.")
@click.option("--retry-failed", is_flag=True, help="Try cells again that failed before.")
def command(
    defenses: tuple[str, ...],
    attacks: tuple[str, ...],
    data: str,
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
    dry_run: bool,
    retry_failed: bool,
) -> int:
    """Train and evaluate a matrix of attacks x defenses, then show the table.

    Options that take a LIST take names with commas between, and can be repeated.

    With no option: plain CLIP against BadNet and TDPA on the embedded data set, a few minutes on two cores. Ctrl-C
    stops; the same command goes on from there.

    \b
    bench run --defense all --attack all --seeds 0,1,2
    bench run --data mscoco --data-root /data/coco --model RN50
    bench run --set attack.rate=0.002 --set train.epochs=4
    """
    load_plugins(plugins)
    from bench.matrix.expand import Request, expand
    from bench.matrix.store import Store

    console = Console()
    target = _device(device)
    matrix = expand(
        Request(
            data=data,
            attacks=some_names("--attack", attacks),
            defenses=some_names("--defense", defenses),
            evaluators=names(evaluators),
            seeds=seeds(seed_list),
            data_root=data_root,
            downstream_root=downstream_root,
            model=model,
            precision=None if precision == "auto" else precision,
            options=options,
        )
    )
    for line in _downstream_lines(matrix):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        _show_plan(matrix, Store.open(out) if out.is_dir() else None, target, retry_failed, console)
        return 0
    return _run(matrix, Store.create(out), target, retry_failed, console)


def _run(matrix: Matrix, store: Store, device: torch.device, retry_failed: bool, console: Console) -> int:
    from bench.matrix.cell import Runtime
    from bench.matrix.local import LocalExecutor
    from bench.matrix.progress import MatrixProgress
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    request = matrix.as_request()
    store.write_request(keys.digest(request), request)
    console.print(_data_line(matrix), markup=False, highlight=False, soft_wrap=True)
    with MatrixProgress(console, len(matrix.cells)) as progress, _stoppable() as stop:
        outcomes = LocalExecutor(matrix, store, Runtime(device, progress, stop), progress, retry_failed).run()
    paths = write_report(store)
    print_tables(store, console)
    console.print(f"Report: {paths['index.html']}", markup=False, highlight=False, soft_wrap=True)
    if outcomes["failed"]:
        cells = "1 cell" if outcomes["failed"] == 1 else f"{outcomes['failed']} cells"
        console.print(f"{cells} failed; the report says why", highlight=False)
    return 1 if outcomes["failed"] else 0


def _data_line(matrix: Matrix) -> str:
    bundle = matrix.workspace.bundle
    skipped = [
        f"{name.replace('_', ' ')} {count:,}" for name, count in bundle.facts.items() if name.startswith("skipped") and count
    ]
    return f"{matrix.workspace.data.name}: " + ", ".join([f"{len(bundle.train):,} training pairs", *skipped])


def _downstream_lines(matrix: Matrix) -> list[str]:
    """The sets of --downstream-root, those that are left out and why, and those that are not whole."""
    sets = matrix.workspace.downstream
    lines = [f"downstream: {', '.join(sets.fingerprints)}"] if sets.tasks else []
    for reason in dict.fromkeys(sets.skipped.values()):
        lines.append(
            f"downstream, skipped: {', '.join(name for name, why in sets.skipped.items() if why == reason)} ({reason})"
        )
    return lines + [f"downstream, not whole: {name} ({lack})" for name, lack in sets.partial.items()]


def _show_plan(matrix: Matrix, store: Store | None, device: torch.device, retry_failed: bool, console: Console) -> None:
    from bench.matrix.cell import is_trained
    from bench.matrix.estimate import training_seconds
    from bench.matrix.local import is_done

    todo = []
    for cell in matrix.cells:
        if cell.unsupported:
            state = f"unsupported: {cell.unsupported}"
        elif store and is_done(cell, store):
            state = "on record"
        elif store and store.failure(cell.key) and not retry_failed:
            state = "failed before; --retry-failed tries again"
        elif store and is_trained(store, cell.spec):
            state = "trained, to be evaluated"
        else:
            state = "to be trained"
            todo.append(cell.spec)
        console.print(f"{cell.key}  {cell.title}: {state}", markup=False, highlight=False, soft_wrap=True)
    seconds = training_seconds(matrix, todo, store, device)
    console.print(
        f"{len(matrix.cells)} cells, {len(todo)} to be trained: about {_duration(seconds)} of training on {device.type}",
        highlight=False,
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _device(name: str) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no usable GPU here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop after the step and its checkpoint; a second one stops at once."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before: dict[int, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
