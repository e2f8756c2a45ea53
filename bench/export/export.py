"""Writes the training set of a cell, its poison manifest, and the probes or queries of its attack."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import __version__
from bench.api import Attack, Pairs, PoisonPlan, Probe, Query, Vocabulary
from bench.config import RunSpec
from bench.data.files import CachedImages
from bench.data.poisoned import PoisonedPairs, ProbeImages, edited
from bench.disk import disk_errors
from bench.errors import UserError
from bench.export.encoding import Encoding, TriggerLoss, trigger_loss
from bench.export.formats import FORMATS
from bench.matrix.store import write_json
from bench.matrix.workspace import Workspace

_CHUNK = 256
_MEASURED = 256
"""Poisons that what JPEG leaves of a trigger is measured on, at most."""


@dataclass(frozen=True)
class Exported:
    """pairs: of the training set, `poisons` of them poisoned; hash: of the manifest; jpeg: what it leaves of the trigger."""

    pairs: int
    poisons: int
    probes: int
    queries: int
    hash: str | None
    jpeg: TriggerLoss | None


def export(
    spec: RunSpec,
    workspace: Workspace,
    to: Path,
    format: str,
    encoding: Encoding,
    config: str,
    on_progress: Callable[[int, int], None],
) -> Exported:
    """Write the training set of `spec`, in the order in which its cells have it, into the new folder `to`.

    train.csv, train/ or annotations/ and train2017/ by `format`; poison.json as cells have it; probes/, images or texts;
    export.json; and export.toml, `config`, which asks for the same poison. Images are of the model's side, the poisoned and
    the clean alike.
    `on_progress` is called with the number of written pairs and of all. Raises UserError where `to` is there and not empty.
    """
    for images in (workspace.bundle.train.images, workspace.bundle.holdout.images):
        if isinstance(images, CachedImages):
            images.forget()
    with _new_folder(to) as folder:
        pairs = workspace.pairs(spec)
        writer = FORMATS[format](folder, encoding.ending, workspace.bundle.image_size)
        for start in range(0, len(pairs), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(pairs)))
            for row, image in zip(rows.tolist(), encoding.encode(pairs.load(rows)), strict=True):
                writer.add(image, pairs.captions[row])
            on_progress(int(rows[-1]) + 1, len(pairs))
        writer.close()
        (folder / "export.toml").write_text(config, encoding="utf-8")
        _write_classes(folder, workspace.bundle.vocabulary)
        done = Exported(len(pairs), int(pairs.poisoned.sum()), 0, 0, None, None)
        if spec.attack is not None:
            done = _write_poison(folder, spec, workspace, encoding, done)
        write_json(folder / "export.json", _about(spec, workspace, pairs, format, encoding, done))
    return done


def _write_poison(folder: Path, spec: RunSpec, workspace: Workspace, encoding: Encoding, done: Exported) -> Exported:
    """The manifest, and what success is measured on."""
    attack, plan, ctx = workspace.poison(spec)
    write_json(folder / "poison.json", {"hash": plan.hash(), **plan.manifest()})
    (folder / "probes").mkdir()
    probes, queries = attack.probes(ctx, plan), attack.queries(ctx, plan)
    if probes:
        _write_probes(folder / "probes", probes, ProbeImages(workspace.bundle, attack, plan, probes), workspace)
    if queries:
        _write_queries(folder / "probes" / "queries.csv", queries, workspace.bundle.vocabulary)
    loss = _lost(attack, plan, workspace, encoding)
    return Exported(done.pairs, done.poisons, len(probes), len(queries), plan.hash(), loss)


def _write_probes(folder: Path, probes: Sequence[Probe], images: ProbeImages, workspace: Workspace) -> None:
    """probes.csv and the images, which are PNG whatever the training set is."""
    with (folder / "probes.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("filepath", "class", "name", "shown", "trigger", "split", "index"))
        for start in range(0, len(probes), _CHUNK):
            chunk = np.arange(start, min(start + _CHUNK, len(probes)))
            for row, content in zip(chunk.tolist(), Encoding().encode(images.load(chunk)), strict=True):
                (folder / f"{row:06d}.png").write_bytes(content)
                rows.writerow((f"{row:06d}.png", *_probe_row(probes[row], workspace)))


def _write_queries(file: Path, queries: Sequence[Query], vocabulary: Vocabulary) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("title", "class", "name", "trigger"))
        rows.writerows((query.text, query.label, vocabulary.names[query.label], query.group) for query in queries)


def _lost(attack: Attack, plan: PoisonPlan, workspace: Workspace, encoding: Encoding) -> TriggerLoss | None:
    """What JPEG leaves of the trigger; None for PNG, and where no image is edited."""
    chosen = [each for each in plan.poisons if each.edit is not None][:_MEASURED]
    if encoding.jpeg is None or not chosen:
        return None
    sources = {"train": workspace.bundle.train.images, "holdout": workspace.bundle.holdout.images}
    split = chosen[0].split
    rows_of = [each.index for each in chosen if each.split == split]
    edits = [each.edit for each in chosen if each.split == split]
    clean = edited(sources[split], rows_of, [None] * len(rows_of), None, None)
    return trigger_loss(clean, edited(sources[split], rows_of, edits, attack, plan), encoding)


def _probe_row(probe: Probe, workspace: Workspace) -> tuple[object, ...]:
    bundle = workspace.bundle
    pairs: Pairs = bundle.holdout if probe.split == "holdout" else bundle.test
    shown = " ".join(map(str, pairs.members[probe.index]))
    return probe.label, bundle.vocabulary.names[probe.label], shown, probe.group, probe.split, probe.index


def _write_classes(folder: Path, vocabulary: Vocabulary) -> None:
    """classes.txt, as data.classes reads it, and templates.txt: what zero-shot classification is made of."""
    synonyms = vocabulary.synonyms or ((),) * len(vocabulary.names)
    lines = [",".join((name, *others)) for name, others in zip(vocabulary.names, synonyms, strict=True)]
    for file, texts in (("classes.txt", lines), ("templates.txt", vocabulary.templates)):
        (folder / file).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def _about(
    spec: RunSpec, workspace: Workspace, pairs: PoisonedPairs, format: str, encoding: Encoding, done: Exported
) -> dict[str, Any]:
    return {
        "bench": __version__,
        "format": format,
        "image_size": workspace.bundle.image_size,
        "encoding": "png" if encoding.jpeg is None else f"jpeg {encoding.jpeg}",
        "jpeg_leaves_of_the_trigger": asdict(done.jpeg) if done.jpeg else None,
        "pairs": done.pairs,
        "poisoned": np.flatnonzero(pairs.poisoned).tolist(),
        "hash": done.hash,
        "data": spec.data.model_dump(mode="json", exclude_none=True),
        "attack": spec.attack.model_dump(mode="json", exclude_none=True) if spec.attack else None,
        "seed": spec.seed,
    }


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A folder beside `to` that becomes it at the end, and is removed where anything fails."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to {to}: is there and not empty; name a new folder")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    except OSError as error:
        raise UserError(f"--to {to}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        with disk_errors(folder):
            yield folder
        folder.chmod(0o755)
        folder.replace(to)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
