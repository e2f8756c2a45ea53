"""Opening, tokenising and shuffling a synthetic download of Conceptual Captions: time and peak memory of each step.

    python -m bench.benchmarks.captions --pairs 3000000 --folder /tmp/cc3m

The captions are about ten random words of CLIP's vocabulary, and the images are empty files, which nothing decodes. The
download is kept in the folder for the next call. Each step runs in its own process.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import numpy as np

from bench.benchmarks import run

SHARD_SIZE = 10_000
TSV = {"train": "Train_GCC-training.tsv", "val": "Validation_GCC-1.1.0-Validation.tsv"}
STEPS = ("open", "open again", "tokenise", "read again", "train", "eda")


@click.command()
@click.option("--pairs", default=3_000_000, show_default=True, help="Training pairs.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the synthetic download; reused by a second call.",
)
@click.option("--step", type=click.Choice(STEPS), help="Run this step alone, in this process.")
def main(pairs: int, folder: Path, step: str | None) -> None:
    """Create a synthetic download of `cc3m` and time each step from its captions to shuffled tokens."""
    if step is not None:
        measure(folder, step)
        return
    if not (folder / "complete").exists():
        make(folder, pairs)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "cache").mkdir()
    for each in STEPS:
        command = [sys.executable, "-m", "bench.benchmarks.captions", "--folder", str(folder), "--step", each]
        subprocess.run(command, check=True, env={**os.environ, "BENCH_CACHE": str(folder / "cache")})


def make(folder: Path, pairs: int) -> None:
    """Write both TSV files, and an empty image for each row in numbered folders."""
    rng = np.random.default_rng(0)
    for split, count in (("train", pairs), ("val", 15_000)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        with (folder / TSV[split]).open("w", encoding="utf-8") as table:
            for start in range(0, count, SHARD_SIZE):
                rows = range(start, min(start + SHARD_SIZE, count))
                shard = folder / split / f"{start // SHARD_SIZE:05d}"
                shard.mkdir(exist_ok=True)
                for row, sentence in zip(rows, sentences(len(rows), rng), strict=True):
                    table.write(f"{sentence}\thttp://example.org/images/{row}.jpg\n")
                    (shard / f"{row:09d}.jpg").touch()
    (folder / "complete").touch()


def sentences(count: int, rng: np.random.Generator) -> Iterator[str]:
    """Captions of about ten random words, the frequent ones most often."""
    known = words()
    for length in 3 + rng.poisson(7.3, count):
        drawn = (len(known) * rng.random(length) ** 4).astype(int)
        yield f"{' '.join(known[word] for word in drawn)} ."


@cache
def words() -> list[str]:
    """The whole words of CLIP's vocabulary in ASCII, most frequent first; the bytes before them are left out."""
    from open_clip.tokenizer import SimpleTokenizer

    merged = list(SimpleTokenizer().encoder)[2 * 256 :]
    return [word.removesuffix("</w>") for word in merged if word.endswith("</w>") and word.isascii() and word[:-4].isalpha()]


def measure(folder: Path, step: str) -> None:
    from bench.api.data import DataPlace
    from bench.data import thesaurus
    from bench.data.captions import CaptionTokens
    from bench.data.conceptual import CC3M, CC3MParams
    from bench.data.loader import batches
    from bench.data.poisoned import PoisonedPairs
    from bench.data.tokens import cached_tokens
    from bench.models import factory

    clock = Clock()
    bundle = CC3M().open(CC3MParams(), 224, DataPlace(folder, folder / "cache"))
    if step.startswith("open"):
        clock.report(step, f"{len(bundle.train):,} pairs")
        return
    clock.restart()
    tokenize, identity = factory.tokenizer("RN50"), factory.tokenizer_identity("RN50")
    clean = cached_tokens(bundle.train.captions, tokenize, identity, folder / "cache", lambda count: None)
    if step in ("tokenise", "read again"):
        clock.report(step, f"{len(clean) / clock.seconds:,.0f} pairs/s, {clean.nbytes / 1e6:,.0f} MB of {clean.dtype}")
        return
    rng = np.random.default_rng(0)
    pairs = PoisonedPairs(bundle, rng=rng)
    synonyms = thesaurus.synonyms(thesaurus.best({}), {})
    texts = pairs.captions, pairs.captions.tokens(clean, tokenize), tokenize
    if step == "train":
        clock.restart()
        ids = CaptionTokens.vocabulary(*texts, synonyms)
        clock.report("vocabulary", f"{len(ids):,} ids")
    captions = CaptionTokens(*texts, lambda tokens: tokens, synonyms)
    clock.restart()
    epoch = batches(np.arange(len(pairs)), 128, rng)
    chosen = epoch if step == "train" else epoch[:200]
    for rows in chosen:
        captions.plain(rows) if step == "train" else captions.eda(rows, 0.1, rng)
    what = "an epoch of plain captions" if step == "train" else f"{len(chosen)} batches of EDA captions"
    clock.report(what, f"{sum(map(len, chosen)) / clock.seconds:,.0f} pairs/s")


class Clock:
    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """CPU seconds of this process, whatever else runs on the machine."""
        return time.process_time() - self._started[1]

    def report(self, what: str, note: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        passed = time.perf_counter() - self._started[0]
        click.echo(f"{what}: {passed:.1f} s ({self.seconds:.1f} s of CPU), peak {peak:.2f} GiB, {note}")


if __name__ == "__main__":
    run(main)
