"""Runs matrices: in this process, beside others of torchrun, or on a Ray cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cluster.place import Order, Place
from bench.console import say
from bench.interface.config_file import config_text
from bench.interface.options import RunOptions
from bench.interface.work import Work

if TYPE_CHECKING:
    import torch

    from bench.jobs.share import Share
    from bench.matrix.expand import Matrix
    from bench.matrix.schema import RequestRecord
    from bench.matrix.store import Store
    from bench.training.ranks import Ranks


def run(work: Work, asked: RunOptions, store: Store, console: Console, finish: Callable[[], Counter[str]]) -> Counter[str]:
    """Let `finish` settle every cell, and write the report; counts of outcomes."""
    for request in work.requests:
        _write_request(store, request, asked)
    outcomes = finish()
    tell(store, console)
    if outcomes["failed"]:
        cells = "1 cell" if outcomes["failed"] == 1 else f"{outcomes['failed']} cells"
        console.print(f"{cells} failed; the report says why", highlight=False)
    return outcomes


def tell(store: Store, console: Console) -> None:
    """Write the report of a results folder, and show its tables."""
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    with store.lock("report"):
        paths = write_report(store)
    print_tables(store, console)
    say(console, f"Report: {paths['index.html']}")


def _write_request(store: Store, request: RequestRecord, asked: RunOptions) -> None:
    """Put a request on record, with the file that --config takes to ask for the same."""
    from bench.matrix.store import atomic

    store.write_request(request.key, request)
    path = store.root / "requests" / f"{request.key}.toml"
    if not path.exists():
        with atomic(path) as stream:
            stream.write(config_text(asked).encode())


def locally(
    matrices: Sequence[Matrix], store: Store, asked: RunOptions, device: torch.device, ranks: Ranks, console: Console
) -> Counter[str]:
    """Settle every cell in this process, or as the first of several that train together; counts of outcomes."""
    from bench.jobs.share import Share, cores
    from bench.matrix.followers import followed
    from bench.matrix.local import LocalExecutor, unsettled
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.stop import stoppable
    from bench.training.determinism import deterministic

    todo = unsettled(matrices, store, asked.retry_failed)
    share = Share.of(asked.jobs, device, todo)
    if share.count > 1:
        return _side_by_side(matrices, store, asked, device, share, console)
    if todo and share.spare:
        say(console, f"{share}; --jobs 1 takes all {cores()} cores, and rounds differently")
    outcomes: Counter[str] = Counter()
    with (
        deterministic(asked.deterministic),
        share.limited(),
        MatrixProgress(console, _cells(matrices)) as progress,
        stoppable() as stop,
        followed(ranks),
    ):
        runtime = Runtime(
            device,
            progress,
            stop,
            asked.checkpoint_seconds,
            asked.track,
            asked.words(),
            ranks,
            asked.grad_checkpointing,
            asked.deterministic,
        )
        for matrix in matrices:
            say(console, _data_line(matrix))
            outcomes += LocalExecutor(matrix, store, runtime, progress, asked.retry_failed).run()
    return outcomes


def _side_by_side(
    matrices: Sequence[Matrix], store: Store, asked: RunOptions, device: torch.device, share: Share, console: Console
) -> Counter[str]:
    from bench.jobs.executor import side_by_side

    order = _order(store, asked, None, device.type, share.threads or 1)
    for matrix in matrices:
        say(console, _data_line(matrix))
    return side_by_side(matrices, store, order, share, device, console)


def along(
    matrices: Sequence[Matrix], store: Store, asked: RunOptions, device: torch.device, ranks: Ranks, console: Console
) -> None:
    """Train what the first process of several trains."""
    from bench.matrix.followers import follow
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.stop import stoppable
    from bench.training.determinism import deterministic

    with deterministic(asked.deterministic), stoppable() as stop:
        progress = MatrixProgress(console, _cells(matrices))
        runtime = Runtime(
            device, progress, stop, asked.checkpoint_seconds, ranks=ranks, grad_checkpointing=asked.grad_checkpointing
        )
        follow(matrices, store, runtime)


def on_cluster(
    matrices: Sequence[Matrix], store: Store, asked: RunOptions, place: Place, request: str, console: Console
) -> Counter[str]:
    """Settle every cell on a Ray cluster; counts of outcomes. `request` is the key of one that is in the store."""
    from bench.cluster.driver import RayExecutor, connected
    from bench.cluster.progress import ClusterProgress
    from bench.matrix.stop import stoppable

    for matrix in matrices:
        say(console, _data_line(matrix))
    with connected(place), stoppable() as stop, ClusterProgress(console, _cells(matrices)) as progress:
        device = "cpu" if asked.device == "auto" and not place.gpus else asked.device
        order = _order(store, asked, request, device, place.cpus)
        return RayExecutor(matrices, store, place, order, progress, stop).run()


def _order(store: Store, asked: RunOptions, request: str | None, device: str, threads: int) -> Order:
    from bench.models import pretrained

    return Order(
        store=store.root.absolute(),
        request=request,
        plugins=tuple(str(Path(file).absolute()) for file in asked.plugin),
        device=device,
        threads=threads,
        retry_failed=asked.retry_failed,
        checkpoint_seconds=asked.checkpoint_seconds,
        command=asked.words(),
        track=asked.track,
        weights=pretrained.known_files(),
        grad_checkpointing=asked.grad_checkpointing,
        deterministic=asked.deterministic,
    )


def _cells(matrices: Sequence[Matrix]) -> int:
    return sum(len(matrix.cells) for matrix in matrices)


def _data_line(matrix: Matrix) -> str:
    bundle = matrix.workspace.bundle
    skipped = [
        f"{name.replace('_', ' ')} {count:,}" for name, count in bundle.facts.items() if name.startswith("skipped") and count
    ]
    return f"{matrix.workspace.data.name}: " + ", ".join([f"{len(bundle.train):,} training pairs", *skipped])
