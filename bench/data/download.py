"""One download of Conceptual Captions: its folders of shards and its tables, and what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Findings
from bench.data import shards, tsv, twins
from bench.data.files import Faults, OnError, keep_array, kept_array, loadable
from bench.errors import UserError

_KINDS = ("missing", "unreadable", "duplicate", "captionless", "incomplete", "imageless")

_OF_FILES = {
    "missing": ("missing", "images or shards that are broken links, or no files", "restore them"),
    "misnamed": ("unreadable", "images whose names are not UTF-8", "rename them"),
    "duplicate": ("duplicate", "images whose name, apart from its ending, occurs twice in a shard", "keep one of each"),
}
"""Of kinds of files the kind of fault, what they are, and what helps."""


class Download:
    """Reads the parts of a download under `root`, and counts what is wrong: in `faults`, and in `findings` where given."""

    def __init__(
        self, root: Path, layout: shards.Layout, on_error: OnError, cache: Path | None, findings: Findings | None
    ) -> None:
        self.root = root
        self.faults = Faults(on_error, _KINDS, findings)
        self._layout = layout
        self._cache = cache
        self._findings = findings
        self._causes: list[str] = []

    def part(self, folder: str, table_name: str) -> shards.Shards:
        """The pairs of one split that have a caption."""
        table = _Table(self.root / table_name, self._cache)
        part = shards.read(self.root / folder, self._layout, table.read, table.stamp, self._cache)
        self._tell_files(part)
        lacking = np.flatnonzero(part.captions.lengths == 0)
        if len(lacking):
            problem = f"{part.folder} has {len(lacking)} images without a caption, the first {part.uids(folder)[lacking[0]]}"
            self._fault("captionless", f"{problem}; {self._captions_from(part, table)}", len(lacking), len(part))
        if table.rows:
            self.faults.facts[f"not_downloaded_{folder}" if folder != "." else "not_downloaded"] = max(
                0, table.rows - len(part)
            )
        part = part.select(np.flatnonzero(part.captions.lengths))
        again = twins.repeated_pairs(part, self._cache)
        if len(again):
            first = part.uids(folder)[again[0]]
            problem = f"{part.folder} has {len(again)} pairs whose image and caption a pair before has, the first {first}"
            self._remark("duplicate", problem, len(again))
        return part.select(np.delete(np.arange(len(part)), again)) if len(again) else part

    def apart(self, train: shards.Shards, val: shards.Shards, drop: bool) -> tuple[shards.Shards, NDArray[np.int64]]:
        """The training pairs, with `drop` without those whose image is in `val` too; and the first image of `val` with the
        same bytes, for each: int64 (n,).
        """
        image_of, shared = twins.first_images(val, train, self._cache)
        if len(shared):
            said = f"{len(shared):,}, the first {train.uids(train.folder.name)[shared[0]]}"
            self.faults.facts["training_images_in_validation"] = f"{said}{', left out' if drop else ''}"
        return train.select(np.delete(np.arange(len(train)), shared)) if drop else train, image_of

    def readable(self, part: shards.Shards, note: str) -> shards.Shards:
        """The pairs whose image can be decoded."""
        fine = loadable(part.images(32), self._cache / f"readable-{note}.npy" if self._cache else None)
        self.faults.note("unreadable", "", int((~fine).sum()))
        return part.select(np.flatnonzero(fine))

    def fail(self, kind: str, problem: str, hint: str) -> None:
        """Raises UserError with the first cause, else with `hint`; where there are findings, it becomes one of them."""
        if self._findings is not None and self._findings.counts:
            self._findings.note(kind, problem)
            return
        ignored = [
            f"{key.replace('_', ' ')}: {value}" for key, value in self.faults.facts.items() if key.startswith("ignored_")
        ]
        raise UserError(f"{problem}: {next(iter([*self._causes, *ignored]), hint)}")

    def _fault(self, kind: str, problem: str, count: int, images: int) -> None:
        """As `Faults.note`, without the advice to skip where all of the `images` are affected."""
        self._causes.append(problem)
        if count >= images and self._findings is None and not self.faults.skip:
            raise UserError(problem)
        self.faults.note(kind, problem, count)

    def _tell_files(self, part: shards.Shards) -> None:
        """What was found wrong with the files, apart from their captions."""
        counts, folder = part.found.counts, part.folder.name
        if part.incomplete:
            more = f", and {len(part.incomplete) - 1} more that are not whole" if part.incomplete[1:] else ""
            problem = f"{part.incomplete[0]}; download this shard again{more}"
            self._fault("incomplete", problem, len(part.incomplete), len(part.incomplete) + len(part))
        for found, (kind, problem, remedy) in _OF_FILES.items():
            if counts[found]:
                first = f"{folder}/{part.found.first[found]}"
                self.faults.note(
                    kind, f"{part.folder} has {counts[found]} {problem}, the first {first}; {remedy}", counts[found]
                )
        imageless = [kind for kind in counts if kind.startswith("imageless ")]
        if imageless:
            kinds = ", ".join(f"{counts[kind]} {kind.partition(' ')[2]}" for kind in imageless)
            problem = f"{part.folder} has samples without an image of a known format: {kinds}"
            first = f"{folder}/{part.found.first[imageless[0]]}"
            self._remark("imageless", f"{problem}, the first {first}", sum(counts[kind] for kind in imageless))
        beside = [f"{count} {kind.partition(' ')[2]}" for kind, count in counts.items() if kind.startswith("beside ")]
        if beside:
            self.faults.facts[f"ignored_{folder}"] = ", ".join(beside)

    def _remark(self, kind: str, problem: str, count: int) -> None:
        """Counts what is left out and is no error."""
        self.faults.facts[f"skipped_{kind}"] = int(self.faults.facts[f"skipped_{kind}"]) + count
        if self._findings is not None:
            self._findings.note(kind, problem, count)

    def _captions_from(self, part: shards.Shards, table: _Table) -> str:
        """What gives captions to images that have none."""
        counts, first = part.found.counts, part.found.first
        write = "write each caption into a .txt of its image's name"
        if counts["illegible"]:
            problem = f"{counts['illegible']} of their files are not UTF-8 text, the first {first['illegible']}"
            return f"{problem}: save them in that encoding"
        if counts["beside .cls"]:
            return f"beside them lie labels (.cls) and no captions: {write}"
        if counts["unnumbered"]:
            return f"{table.file.name} lists other images, their names are not its row numbers: {write}"
        if table.stamp:
            return f"{table.file.name} has no caption for such names: {write}, or remove copies"
        return f"put {table.file.name} into {self.root} or {write}"


class _Table:
    """A TSV of captions that may be absent; read when it is needed, its number of rows kept in the cache."""

    def __init__(self, file: Path, cache: Path | None) -> None:
        self.file = file
        facts = file.stat() if file.is_file() else None
        self.stamp = [str(file.resolve()), facts.st_size, facts.st_mtime_ns] if facts else None
        self._note = cache / f"tsv-{hashlib.sha256(json.dumps(self.stamp).encode()).hexdigest()[:24]}.npy" if cache else None

    @cached_property
    def _table(self) -> tsv.CaptionTable:
        return tsv.read(self.file)

    def read(self) -> tsv.CaptionTable | None:
        return self._table if self.stamp else None

    @cached_property
    def rows(self) -> int:
        if not self.stamp:
            return 0
        if (kept := kept_array(self._note, np.int64, 1)) is None:
            kept = np.array([len(self._table)])
            keep_array(self._note, kept)
        return int(kept[0])
