"""`bench.run`."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from bench.cluster.options import RayOptions, SlurmOptions
from bench.console import print_plain
from bench.errors import Stopped, UserError
from bench.interface import execute
from bench.interface.build import RunPlan, build_matrices
from bench.interface.dry_run import show_plan
from bench.interface.options import RunOptions
from bench.interface.plugins import load_plugins

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from bench.training.ranks import Ranks

Location = str | PathLike[str]
Several = str | Iterable[str]


@dataclass(frozen=True)
class Results:
    """The outcome of a run.

    Attributes
    ----------
    folder : Path
        The results folder.
    runs : tuple of str
        Keys of the requested cells and their dependencies, in the order of the matrix.
    outcomes : dict of str to int
        Numbers of cells by outcome: "done", "cached" (already on record), "failed", "unsupported"; empty after a dry run.
    """

    folder: Path
    runs: tuple[str, ...] = field(repr=False)
    outcomes: dict[str, int]

    @property
    def failed(self) -> int:
        """The number of failed cells; `frame` has the reasons."""
        return self.outcomes.get("failed", 0)

    @property
    def report(self) -> Path:
        """Path of the folder's HTML report."""
        return self.folder / "report" / "index.html"

    @property
    def frame(self) -> pd.DataFrame:
        """The measurements of these cells: their rows of `bench.load_results`, read at each access."""
        from bench.interface.results import load_results

        found = load_results(self.folder)
        return found[found["run_key"].isin(self.runs)].reset_index(drop=True)


def run(
    *,
    attack: Several = ("badnet", "tdpa"),
    defense: Several = ("clip",),
    suite: Several = (),
    data: str | None = None,
    data_root: Location | None = None,
    downstream_root: Location | None = None,
    evaluator: Several = ("asr", "zero_shot", "linear_probe"),
    model: str | None = None,
    pretrained: str | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    seeds: int | Iterable[int] | str = (0,),
    set: Mapping[str, Any] | Several = (),
    plugin: Location | Iterable[Location] = (),
    out: Location = "results",
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    jobs: int | str | None = None,
    shard: str | None = None,
    executor: Literal["local", "ray", "submitit"] = "local",
    ray_address: str | None = None,
    cpus_per_cell: int | None = None,
    gpus_per_cell: float | None = None,
    slurm: Mapping[str, Any] | Several = (),
    track: Literal["tensorboard", "wandb"] | None = None,
    controls: bool = False,
    grad_checkpointing: bool = False,
    deterministic: bool = False,
    dry_run: bool = False,
    retry_failed: bool = False,
    checkpoint_minutes: float = 5.0,
    quiet: bool = False,
) -> Results:
    """Train and evaluate a matrix of attacks x defenses, as `bench run` does with the same options.

    Cells on record are not trained again, so the same call resumes an interrupted run, and a new evaluator trains nothing.

    Parameters
    ----------
    attack : str or iterable of str
        Names from `bench list`, comma-separated lists of them, "all" or "none".
    defense : str or iterable of str
        Names, likewise.
    suite : str or iterable of str
        Tables and figures of papers, or suite files, instead of `attack` and `defense`; or "all".
    data : str, optional
        Pre-training data set, or NAME:FOLDER; by default "scenes", and with `suite` the paper's.
    data_root : str or path, optional
        Folder of the data set.
    downstream_root : str or path, optional
        Folder of further downstream sets.
    evaluator : str or iterable of str
        Names, likewise.
    model : str, optional
        Architecture; by default the recipe's.
    pretrained : str, optional
        Weights that every cell starts from: a tag of open_clip, or a file of safetensors or of torch.save; by default the
        recipe's, which mostly is none.
    recipe : str or mapping, optional
        Name or TOML file of a recipe, or its sections; by default the data set's own.
    seeds : int or iterable of int
        One or more seeds, not negative.
    set : mapping, or str or iterable of str
        Options as tables, ``{"train": {"epochs": 2}}`` or ``{"train.epochs": 2}``, or as "train.epochs=2".
    plugin : str or path, or iterable of these
        Python files with plugins. Their code runs.
    out : str or path
        Results folder; created if missing.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" or "mps".
    precision : {"auto", "fp32", "bf16", "fp16"}
        "auto" is the recipe's, but fp32 on a CPU without bf16 instructions; "fp16", with gradient scaling, is for GPUs without
        bf16.
    jobs : int or str, optional
        Number of cells that run in parallel, each in its own process. "auto", the default, is one for each CPU core, with one
        thread, or one for each GPU. With 1 they run one after the other in this process.
    shard : str, optional
        "I/N": the I-th of N parts of the matrix, counted from 1.
    executor : {"local", "ray", "submitit"}
        Run cells here, on a Ray cluster, or as Slurm jobs through submitit.
    ray_address : str, optional
        "auto" (a cluster that this machine is part of), "local", or HOST:PORT.
    cpus_per_cell : int, optional
        CPU cores per cell on Ray, by default 1.
    gpus_per_cell : float, optional
        GPUs per cell on Ray, by default 0.
    slurm : mapping, or str or iterable of str
        Parameters of the Slurm jobs as submitit names them, ``{"partition": "gpu", "gpus_per_node": 1}``, or as
        "partition=gpu"; "cluster=local" runs them as processes of this machine.
    track : {"tensorboard", "wandb"}, optional
        Log the training curves for TensorBoard or Weights & Biases too.
    controls : bool
        For each defended cell also train plain CLIP with as many steps and pairs.
    grad_checkpointing : bool
        Activation checkpointing in towers without batch normalisation: less memory and more time, the same numbers.
    deterministic : bool
        PyTorch's deterministic algorithms, so that a run repeats exactly on a GPU too; slower, and an operation without such an
        algorithm fails its cell.
    dry_run : bool
        Print the cells, what is on record, and an estimate of time; train nothing.
    retry_failed : bool
        Retry cells that failed before.
    checkpoint_minutes : float
        Time between checkpoints; 0 writes one after every step.
    quiet : bool
        Print nothing.

    Returns
    -------
    Results
        The folder, and the keys and outcomes of the cells. A failed cell does not raise.

    Raises
    ------
    bench.UserError
        For bad input, or if the disk is full.
    KeyboardInterrupt
        After Ctrl-C or a notebook's stop button, once the current step is finished and checkpointed.
    bench.Stopped
        After SIGTERM, likewise. Outside the main thread, Python delivers no signals, and a run cannot be stopped.

    Examples
    --------
    >>> results = bench.run(defense=["clip", "safeclip"], attack="badnet", seeds=range(3))  # doctest: +SKIP
    >>> results.frame.query("metric == 'asr'").groupby("defense").value.mean()  # doctest: +SKIP
    """
    options = RunOptions.of({name: value for name, value in locals().items() if name != "quiet"})
    try:
        return _run(options, quiet)
    except Stopped as stopped:
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


def _run(options: RunOptions, quiet: bool) -> Results:
    ray = RayOptions.of(options.executor, options.ray_address, options.cpus_per_cell, options.gpus_per_cell)
    slurm = SlurmOptions.of(options.executor, options.slurm)
    cluster = ray or slurm
    load_plugins(options.plugin)
    from bench.interface.precision import NO_BF16, resolve
    from bench.jobs.slots import parse_jobs
    from bench.matrix.device import device_of
    from bench.matrix.tracking import require
    from bench.training import ranks as processes

    if (parse_jobs(options.jobs) or 1) > 1 and cluster:
        raise UserError(
            f"--jobs {options.jobs}: with --executor {options.executor}, {cluster.count_options} the number of cells"
        )
    if cluster and ":" in options.device:
        raise UserError(
            f"--device {options.device}: {cluster.system} gives each cell its GPUs; use --device cuda with {cluster.gpu_option}"
        )
    if options.track:
        require(options.track)
    device = device_of("auto" if cluster else options.device)
    ranks = processes.join(device)
    if cluster and ranks.count > 1:
        raise UserError(
            f"torchrun and --executor {options.executor} exclude each other: a cell on {cluster.system} is one process"
        )
    console, given = Console(quiet=quiet or not ranks.is_main), options.precision
    if not cluster and (precision := resolve(options.precision, options.settings, device)):
        options = options.model_copy(update={"precision": precision})
    plan = build_matrices(options, console)
    if options.precision != given:
        print_plain(console, f"{NO_BF16}, so cells train in {options.precision}; --precision bf16 continues records in bf16")
    outcomes: Counter[str] = Counter()
    if not options.dry_run:
        outcomes = _run_cells(plan, options, device, cluster, ranks, console)
        processes.leave()
    elif ranks.is_main:
        show_plan(plan.matrices, options, device, console)
    return Results(options.out, tuple(cell.key for matrix in plan.matrices for cell in matrix.cells), dict(outcomes))


def _run_cells(
    plan: RunPlan,
    options: RunOptions,
    device: torch.device,
    cluster: RayOptions | SlurmOptions | None,
    ranks: Ranks,
    console: Console,
) -> Counter[str]:
    from bench.matrix.store import Store

    if not ranks.is_main:
        execute.run_worker_rank(plan.matrices, Store(options.out), options, device, ranks, console)
        return Counter()
    store = Store.create(options.out)
    request = plan.requests[0].key
    if cluster is None:
        run_cells = partial(execute.run_locally, plan.matrices, store, options, device, ranks, console)
    elif isinstance(cluster, RayOptions):
        run_cells = partial(execute.run_on_ray, plan.matrices, store, options, cluster, request, console)
    else:
        run_cells = partial(execute.run_on_slurm, plan.matrices, store, options, cluster, request, console)
    return execute.run_and_report(plan, options, store, console, run_cells)
