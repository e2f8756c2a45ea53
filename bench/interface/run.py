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

from bench.cluster.place import Place
from bench.errors import Stopped, UserError
from bench.interface import execute
from bench.interface.dry_run import show_plan
from bench.interface.options import RunOptions
from bench.interface.plugins import load_plugins
from bench.interface.work import Work, planned

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from bench.training.ranks import Ranks

Location = str | PathLike[str]
Several = str | Iterable[str]


@dataclass(frozen=True)
class Results:
    """What a run came to.

    Attributes
    ----------
    folder : Path
        The results folder.
    runs : tuple of str
        Keys of the cells that were asked for and of those that these need, in the order of the matrix.
    outcomes : dict of str to int
        Numbers of cells that are "done", "cached" (were on record), "failed" and "unsupported"; empty after a dry run.
    """

    folder: Path
    runs: tuple[str, ...] = field(repr=False)
    outcomes: dict[str, int]

    @property
    def failed(self) -> int:
        """The number of cells that failed; `frame` has the reasons."""
        return self.outcomes.get("failed", 0)

    @property
    def report(self) -> Path:
        """The HTML report of the folder."""
        return self.folder / "report" / "index.html"

    @property
    def frame(self) -> pd.DataFrame:
        """The measurements of these cells, read anew: the rows of `bench.load_results` that have their keys."""
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
    executor: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    cpus_per_cell: int | None = None,
    gpus_per_cell: float | None = None,
    track: Literal["tensorboard", "wandb"] | None = None,
    controls: bool = False,
    grad_checkpointing: bool = False,
    deterministic: bool = False,
    dry_run: bool = False,
    retry_failed: bool = False,
    checkpoint_minutes: float = 5.0,
    quiet: bool = False,
) -> Results:
    """Train and evaluate a matrix of attacks x defenses; `bench run` with the same options.

    Cells on record are not trained again, so the same call goes on where one was interrupted, and a new evaluator trains
    nothing.

    Parameters
    ----------
    attack : str or iterable of str
        Names as `bench list` shows them, comma lists of them, or "all"; or "none".
    defense : str or iterable of str
        Names, likewise, or "all".
    suite : str or iterable of str
        Tables and figures of the paper, in place of `attack` and `defense`; or "all".
    data : str, optional
        Pre-training data set, or NAME:PLACE; by default "scenes", and with `suite` the paper's.
    data_root : str or path, optional
        Where the data set lies.
    downstream_root : str or path, optional
        A folder of downstream sets to evaluate on too.
    evaluator : str or iterable of str
        Names, as for `attack`, or "all".
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
        Options in tables, as ``{"train": {"epochs": 2}}`` or ``{"train.epochs": 2}``, or as "train.epochs=2".
    plugin : str or path, or iterable of these
        Python files with plugins. Their code runs.
    out : str or path
        Results folder; made if need be.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "mps".
    precision : {"auto", "fp32", "bf16", "fp16"}
        "auto" is the recipe's; "fp16", with its gradients scaled, is for GPUs without bf16.
    jobs : int or str, optional
        Cells side by side, each in a process of its own; by default "auto": as many as CPU cores, each on one thread, or one a
        GPU. 1 runs them one after the other in this process.
    shard : str, optional
        "I/N": the I-th of N parts of the matrix, counted from 1.
    executor : {"local", "ray"}
        Run cells here or on a Ray cluster.
    ray_address : str, optional
        "auto" (a cluster that this machine is part of), "local", or HOST:PORT.
    cpus_per_cell : int, optional
        CPU cores a cell on Ray, at least 1, the default.
    gpus_per_cell : float, optional
        GPUs a cell on Ray, 0 by default.
    track : {"tensorboard", "wandb"}, optional
        Write the curves for TensorBoard or Weights & Biases too.
    controls : bool
        Beside each defended cell train plain CLIP with as many steps and pairs.
    grad_checkpointing : bool
        Activation checkpointing in towers without batch normalisation: less memory and more time, the same numbers.
    deterministic : bool
        Deterministic algorithms of PyTorch, so that a run repeats exactly on a GPU too; slower, and an operation that has none
        fails its cell.
    dry_run : bool
        Print the cells, what is on record, and an estimate of time; train nothing.
    retry_failed : bool
        Try cells again that failed before.
    checkpoint_minutes : float
        Time between checkpoints; 0 is one after every step.
    quiet : bool
        Print nothing.

    Returns
    -------
    Results
        The folder, the keys of the cells, and what became of them. A cell that failed raises nothing.

    Raises
    ------
    bench.UserError
        For bad input, in one sentence; also where a disk is full.
    KeyboardInterrupt
        After Ctrl-C, or the stop button of a notebook: the step at hand is finished and checkpointed first.
    bench.Stopped
        After SIGTERM, likewise. Outside the main thread, where Python delivers no signals, a run cannot be stopped so.

    Examples
    --------
    >>> results = bench.run(defense=["clip", "safeclip"], attack="badnet", seeds=range(3))  # doctest: +SKIP
    >>> results.frame.query("metric == 'asr'").groupby("defense").value.mean()  # doctest: +SKIP
    """
    asked = RunOptions.of({name: value for name, value in locals().items() if name != "quiet"})
    try:
        return _run(asked, quiet)
    except Stopped as stopped:
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


def _run(asked: RunOptions, quiet: bool) -> Results:
    place = Place.of(asked.executor, asked.ray_address, asked.cpus_per_cell, asked.gpus_per_cell)
    load_plugins(asked.plugin)
    from bench.jobs.share import parsed
    from bench.matrix.device import device_of
    from bench.matrix.tracking import require
    from bench.training import ranks as processes

    if (parsed(asked.jobs) or 1) > 1 and place:
        raise UserError(f"--jobs {asked.jobs}: --executor ray runs as many cells as --cpus-per-cell and --gpus-per-cell let it")
    if place and ":" in asked.device:
        raise UserError(f"--device {asked.device}: Ray gives each cell its GPUs; write --device cuda with --gpus-per-cell")
    if asked.track:
        require(asked.track)
    device = device_of("auto" if place else asked.device)
    ranks = processes.join(device)
    if place and ranks.count > 1:
        raise UserError("torchrun and --executor ray exclude each other: a cell on Ray is one process")
    console = Console(quiet=quiet or not ranks.first)
    work = planned(asked, console)
    outcomes: Counter[str] = Counter()
    if not asked.dry_run:
        outcomes = _settle(work, asked, device, place, ranks, console)
        processes.leave()
    elif ranks.first:
        show_plan(work.matrices, asked, device, console)
    return Results(asked.out, tuple(cell.key for matrix in work.matrices for cell in matrix.cells), dict(outcomes))


def _settle(
    work: Work, asked: RunOptions, device: torch.device, place: Place | None, ranks: Ranks, console: Console
) -> Counter[str]:
    from bench.matrix.store import Store

    if not ranks.first:
        execute.along(work.matrices, Store(asked.out), asked, device, ranks, console)
        return Counter()
    store = Store.create(asked.out)
    if place is None:
        finish = partial(execute.locally, work.matrices, store, asked, device, ranks, console)
    else:
        request = work.requests[0].key
        finish = partial(execute.on_cluster, work.matrices, store, asked, place, request, console)
    return execute.run(work, asked, store, console, finish)
