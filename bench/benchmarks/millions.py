"""Millions of pairs within a minute and 2 GiB a step: opening, poisoning, an epoch of order and captions, and export.

    python -m bench.benchmarks.millions --to /tmp/millions

The set is made once, with tiny images: WebDataset, which takes 2 KB a pair, and a CSV of as many files. The cache is emptied
first. Each format has a process of its own, whose peak memory is that of a step with what earlier steps left, without files
that are read in place. The exit code is 1 if a step passes a limit.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from bench.benchmarks import pairs, run
from bench.benchmarks.captions import sentences
from bench.config import PluginSpec, RunSpec, Settings
from bench.data import thesaurus
from bench.data.captions import CaptionTokens
from bench.data.loader import batches
from bench.data.poisoned import PoisonedPairs
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.matrix.expand import UNDEFENDED, Expander, attack_spec, defense_spec
from bench.matrix.store import write_json
from bench.matrix.workspace import Workspace
from bench.models import factory
from bench.profiling.machine import mapped_files, peak_rss, reset_peaks
from bench.registry import attacks, defenses

SECONDS, GIB = 60.0, 2.0
"""Limits of a step."""
SIDE = 8


@click.command()
@click.option("--to", type=click.Path(path_type=Path), required=True, help="Folder of the set; reused by a second call.")
@click.option("--pairs", "count", default=3_000_000, show_default=True, help="Pairs of each format.")
@click.option("--format", "formats", type=click.Choice(list(pairs.DATA)), multiple=True, default=list(pairs.DATA))
@click.option("--attack", default="badnet", show_default=True)
@click.option("--alone", type=click.Choice(list(pairs.DATA)), hidden=True)
def main(to: Path, count: int, formats: tuple[str, ...], attack: str, alone: str | None) -> None:
    """Make the set, and time what touches each of its pairs."""
    if alone is not None:
        sys.exit(not within_limits(to, alone, attack))
    failed = 0
    for format in formats:
        make(to / format, format, count)
        shutil.rmtree(to / "cache", ignore_errors=True)
        click.echo(f"{format}, {count:,} pairs")
        command = [sys.executable, "-m", "bench.benchmarks.millions", "--to", str(to), "--alone", format, "--attack", attack]
        environment = {**os.environ, "BENCH_CACHE": str(to / "cache")}
        failed += subprocess.run(command, check=False, env=environment).returncode != 0
    sys.exit(bool(failed))


def make(folder: Path, format: str, count: int) -> None:
    """Write the pairs unless they are there. Raises UserError if there are others."""
    complete = folder / "complete"
    if complete.exists() and int(complete.read_text()) == count:
        return
    if folder.exists():
        raise UserError(f"--to {folder.parent}: {folder.name}/ does not hold {count:,} pairs; remove it or name another folder")
    pairs.write(folder, format, pairs.tiny(count), sentences(count, np.random.default_rng(0)), SIDE)
    complete.write_text(str(count))


def within_limits(to: Path, format: str, attack: str) -> bool:
    """Time each step on one format; whether all keep to the limits."""
    load_plugins(())
    steps = Steps()
    data, options = pairs.DATA[format]
    settings = Settings(data, options)
    with steps("open"):
        Workspace(settings, data, to / format)
    with steps("open again"):
        expander = Expander(settings, data, to / format, [], None, None)
    workspace = expander.workspace
    with steps(f"poison by {attack}"):
        spec = expander.add(*_plugins(settings, attack), seed=0).spec
        poisoned = workspace.pairs(spec)
    with steps("tokenise"):
        captions = tokens(workspace, spec, poisoned)
    with steps("an epoch of order and captions"):
        for rows in batches(np.arange(len(poisoned)), spec.train.batch_size, np.random.default_rng(0)):
            captions.plain(rows)
    with steps("export captions and manifest"):
        export(workspace, spec, poisoned, to)
    return steps.within


def _plugins(settings: Settings, attack: str) -> tuple[PluginSpec, PluginSpec]:
    return attack_spec(settings, attacks[attack]), defense_spec(settings, defenses[UNDEFENDED])


def tokens(workspace: Workspace, spec: RunSpec, poisoned: PoisonedPairs) -> CaptionTokens:
    """Tokens of the captions and the vocabulary in them, as a training begins with."""
    clean = workspace.train_tokens(spec.model.name, lambda captions, done: None)
    synonyms = thesaurus.synonyms(spec.train.thesaurus, workspace.bundle.synonyms)
    texts = poisoned.captions, poisoned.captions.tokens(clean, factory.tokenizer(spec.model.name)), workspace.tokenizer
    CaptionTokens.vocabulary(*texts, synonyms)
    return CaptionTokens(*texts, lambda ids: ids, synonyms)


def export(workspace: Workspace, spec: RunSpec, poisoned: PoisonedPairs, to: Path) -> None:
    """Write what `bench poison` does, but for images and probes."""
    _, plan, _ = workspace.poison(spec)
    write_json(to / "poison.json", {"hash": plan.hash(), **plan.manifest()})
    with (to / "captions.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows((caption,) for caption in poisoned.captions)


class Steps:
    """Prints time and peak memory of steps; `within` tells whether all kept to the limits."""

    def __init__(self) -> None:
        self.within = True

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        reset_peaks(torch.device("cpu"))
        started, worked = time.perf_counter(), time.process_time()
        yield
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        gib = (peak_rss() - mapped_files()) / 2**30
        over = [limit for limit, passed in ((f"{SECONDS:g} s", seconds > SECONDS), (f"{GIB:g} GiB", gib > GIB)) if passed]
        self.within &= not over
        note = f": more than {' and '.join(over)}" if over else ""
        click.echo(f"  {step}: {seconds:.1f} s ({cpu:.1f} s of CPU), peak {gib:.2f} GiB{note}")


if __name__ == "__main__":
    run(main)
