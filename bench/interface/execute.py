"""Runs matrices: in this process, in parallel worker processes, on the ranks of torchrun, or on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cluster.options import RayOptions, SlurmOptions
from bench.console import print_plain
from bench.interface.build import RunPlan
from bench.interface.config_file import config_text
from bench.interface.options import RunOptions

if TYPE_CHECKING:
    import torch

    from bench.jobs.slots import JobSlots
    from bench.matrix.expand import Matrix
    from bench.matrix.request_schema import RequestRecord
    from bench.matrix.store import Store
    from bench.matrix.worker import WorkerConfig
    from bench.training.ranks import Ranks


def run_and_report(
    plan: RunPlan, options: RunOptions, store: Store, console: Console, run_cells: Callable[[], Counter[str]]
) -> Counter[str]:
    """Record the requests, call `run_cells`, and write the report; returns numbers of cells by outcome."""
    for request in plan.requests:
        _write_request(store, request, options)
    outcomes = run_cells()
    report(store, console)
    if outcomes["failed"]:
        cells = "1 cell" if outcomes["failed"] == 1 else f"{outcomes['failed']} cells"
        console.print(f"{cells} failed; the report says why", highlight=False)
    return outcomes


def report(store: Store, console: Console) -> None:
    """Write the report of a results folder, and print its tables."""
    from bench.reports.terminal import print_tables
    from bench.reports.write import write_report

    with store.lock("report"):
        paths = write_report(store)
    print_tables(store, console)
    print_plain(console, f"Report: {paths['index.html']}")


def _write_request(store: Store, request: RequestRecord, options: RunOptions) -> None:
    """Record a request, and the --config file that repeats it."""
    from bench.disk import atomic_write

    store.write_request(request.key, request)
    path = store.root / "requests" / f"{request.key}.toml"
    if not path.exists():
        precisions = {cell.spec.train.precision for cell in request.cells if cell.spec}
        options = options.model_copy(update={"precision": precisions.pop()}) if len(precisions) == 1 else options
        with atomic_write(path) as stream:
            stream.write(config_text(options).encode())


def run_locally(
    matrices: Sequence[Matrix], store: Store, options: RunOptions, device: torch.device, ranks: Ranks, console: Console
) -> Counter[str]:
    """Run every cell in this process, as rank 0, or in worker processes; returns numbers of cells by outcome."""
    from bench.cores import available_cores
    from bench.interface.precision import NO_BF16
    from bench.jobs.slots import JobSlots
    from bench.matrix.device import emulates_bf16
    from bench.matrix.local import LocalExecutor, count_pending
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.worker_ranks import releasing_workers
    from bench.shutdown import graceful_shutdown
    from bench.training.determinism import deterministic

    pending = count_pending(matrices, store, options.retry_failed)
    slots = JobSlots.of(options.jobs, device, pending)
    if (
        pending
        and emulates_bf16(device)
        and any(cell.spec.train.precision == "bf16" for matrix in matrices for cell in matrix.cells)
    ):
        print_plain(console, f"{NO_BF16}: --precision fp32, under other keys, is several times as fast")
    if slots.count > 1:
        return _run_in_parallel(matrices, store, options, device, slots, console)
    if pending and slots.leaves_cores_idle:
        print_plain(console, f"{slots}; --jobs 1 uses all {available_cores()} cores, and rounds differently")
    outcomes: Counter[str] = Counter()
    with (
        deterministic(options.deterministic),
        slots.limit_threads(),
        MatrixProgress(console, _cells(matrices)) as progress,
        graceful_shutdown() as stop,
        releasing_workers(ranks),
    ):
        runtime = Runtime(
            device,
            progress,
            stop,
            options.checkpoint_seconds,
            options.track,
            options.command_line(),
            ranks,
            options.grad_checkpointing,
            options.deterministic,
        )
        for matrix in matrices:
            print_plain(console, _data_line(matrix))
            outcomes += LocalExecutor(matrix, store, runtime, progress, options.retry_failed).run()
    return outcomes


def _run_in_parallel(
    matrices: Sequence[Matrix], store: Store, options: RunOptions, device: torch.device, slots: JobSlots, console: Console
) -> Counter[str]:
    from bench.jobs.executor import run_in_parallel

    config = _worker_config(store, options, None, device.type, slots.threads or 1)
    for matrix in matrices:
        print_plain(console, _data_line(matrix))
    return run_in_parallel(matrices, store, config, slots, device, console)


def run_worker_rank(
    matrices: Sequence[Matrix], store: Store, options: RunOptions, device: torch.device, ranks: Ranks, console: Console
) -> None:
    """Train the cells that rank 0 trains."""
    from bench.matrix.progress import MatrixProgress
    from bench.matrix.runtime import Runtime
    from bench.matrix.worker_ranks import train_announced_cells
    from bench.shutdown import graceful_shutdown
    from bench.training.determinism import deterministic

    with deterministic(options.deterministic), graceful_shutdown() as stop:
        progress = MatrixProgress(console, _cells(matrices))
        runtime = Runtime(
            device, progress, stop, options.checkpoint_seconds, ranks=ranks, grad_checkpointing=options.grad_checkpointing
        )
        train_announced_cells(matrices, store, runtime)


def run_on_ray(
    matrices: Sequence[Matrix], store: Store, options: RunOptions, ray: RayOptions, request: str, console: Console
) -> Counter[str]:
    """Run every cell on a Ray cluster; returns numbers of cells by outcome. `request` is the key of a recorded request."""
    from bench.cluster.progress import ClusterProgress
    from bench.cluster.ray_executor import RayExecutor, connected
    from bench.shutdown import graceful_shutdown

    for matrix in matrices:
        print_plain(console, _data_line(matrix))
    with connected(ray), graceful_shutdown() as stop, ClusterProgress(console, _cells(matrices)) as progress:
        device = "cpu" if options.device == "auto" and not ray.gpus else options.device
        config = _worker_config(store, options, request, device, ray.cpus)
        return RayExecutor(matrices, store, config, progress, stop, ray).run()


def run_on_slurm(
    matrices: Sequence[Matrix], store: Store, options: RunOptions, slurm: SlurmOptions, request: str, console: Console
) -> Counter[str]:
    """Run every cell as a job of Slurm, likewise."""
    from bench.cluster.progress import ClusterProgress
    from bench.cluster.submitit_executor import SubmititExecutor
    from bench.shutdown import graceful_shutdown

    for matrix in matrices:
        print_plain(console, _data_line(matrix))
    config = _worker_config(store, options, request, options.device, slurm.cpus)
    with graceful_shutdown() as stop, ClusterProgress(console, _cells(matrices)) as progress:
        return SubmititExecutor(matrices, store, config, progress, stop, slurm).run()


def _worker_config(store: Store, options: RunOptions, request: str | None, device: str, threads: int) -> WorkerConfig:
    from bench.matrix.worker import WorkerConfig
    from bench.models import pretrained

    return WorkerConfig(
        store=store.root.absolute(),
        request=request,
        plugins=tuple(str(Path(file).absolute()) for file in options.plugin),
        device=device,
        threads=threads,
        retry_failed=options.retry_failed,
        checkpoint_seconds=options.checkpoint_seconds,
        command=options.command_line(),
        track=options.track,
        weights=pretrained.known_files(),
        grad_checkpointing=options.grad_checkpointing,
        deterministic=options.deterministic,
    )


def _cells(matrices: Sequence[Matrix]) -> int:
    return sum(len(matrix.cells) for matrix in matrices)


def _data_line(matrix: Matrix) -> str:
    bundle = matrix.workspace.bundle
    skipped = [
        f"{name.replace('_', ' ')} {count:,}" for name, count in bundle.facts.items() if name.startswith("skipped") and count
    ]
    return f"{matrix.workspace.data.name}: " + ", ".join([f"{len(bundle.train):,} training pairs", *skipped])
