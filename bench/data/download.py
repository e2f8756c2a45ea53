"""A download of Conceptual Captions: its shards and tables of captions, and the faults in them."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Findings
from bench.data import shard_duplicates, shards, tsv
from bench.data.files import Faults, OnError, load_array, loadable, save_array
from bench.errors import UserError

_KINDS = ("missing", "unreadable", "duplicate", "captionless", "incomplete", "imageless")

_OF_FILES = {
    "missing": ("missing", "images or shards that are broken links or not regular files", "restore them"),
    "misnamed": ("unreadable", "images whose names are not UTF-8", "rename them"),
    "duplicate": ("duplicate", "images whose name, without its suffix, occurs twice in a shard", "keep one of each"),
}
"""By kind of file: the kind of fault, a description and a remedy."""


class Download:
    """Reads the splits of a download in `root` and counts faults, in `faults` and, if given, in `findings`."""

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
        """The pairs of one split that have a caption, without duplicates."""
        table = _Table(self.root / table_name, self._cache)
        part = shards.read(self.root / folder, self._layout, table.read, table.stamp, self._cache)
        self._note_files(part)
        lacking = np.flatnonzero(part.captions.lengths == 0)
        if len(lacking):
            problem = f"{part.folder} has {len(lacking)} images without a caption, the first {part.uids(folder)[lacking[0]]}"
            self._fault("captionless", f"{problem}; {self._captions_from(part, table)}", len(lacking), len(part))
        if table.rows:
            self.faults.facts[f"not_downloaded_{folder}" if folder != "." else "not_downloaded"] = max(
                0, table.rows - len(part)
            )
        part = part.select(np.flatnonzero(part.captions.lengths))
        again = shard_duplicates.repeated_pairs(part, self._cache)
        if len(again):
            first = part.uids(folder)[again[0]]
            problem = (
                f"{part.folder} has {len(again)} pairs that repeat the image and caption of an earlier pair, the first {first}"
            )
            self._remark("duplicate", problem, len(again))
        return part.select(np.delete(np.arange(len(part)), again)) if len(again) else part

    def apart(self, train: shards.Shards, val: shards.Shards, drop: bool) -> tuple[shards.Shards, NDArray[np.int64]]:
        """Find the training images that are also in `val`.

        Returns
        -------
        train : Shards
            The training pairs; with `drop`, without those images.
        first_of_val : int64 (len(val),)
            For each validation image, the index of the first one with the same bytes.
        """
        image_of, shared = shard_duplicates.first_images(val, train, self._cache)
        if len(shared):
            count = f"{len(shared):,}, the first {train.uids(train.folder.name)[shared[0]]}"
            self.faults.facts["training_images_in_validation"] = f"{count}{', left out' if drop else ''}"
        return train.select(np.delete(np.arange(len(train)), shared)) if drop else train, image_of

    def readable(self, part: shards.Shards, identity: str) -> shards.Shards:
        """The pairs whose image can be decoded; the answer is cached under `identity`."""
        fine = loadable(part.images(32), self._cache / f"readable-{identity}.npy" if self._cache else None)
        self.faults.note("unreadable", "", int((~fine).sum()))
        return part.select(np.flatnonzero(fine))

    def fail(self, kind: str, problem: str, hint: str) -> None:
        """Note the problem if there are findings; otherwise raise UserError with the first cause or, without one, `hint`."""
        if self._findings is not None and self._findings.counts:
            self._findings.note(kind, problem)
            return
        ignored = [
            f"{key.replace('_', ' ')}: {value}" for key, value in self.faults.facts.items() if key.startswith("ignored_")
        ]
        raise UserError(f"{problem}: {next(iter([*self._causes, *ignored]), hint)}")

    def _fault(self, kind: str, problem: str, count: int, images: int) -> None:
        """As `Faults.note`, but without the advice to skip if all of the `images` are affected."""
        self._causes.append(problem)
        if count >= images and self._findings is None and not self.faults.skip:
            raise UserError(problem)
        self.faults.note(kind, problem, count)

    def _note_files(self, part: shards.Shards) -> None:
        """Note faults of the files, except missing captions."""
        counts, folder = part.found.counts, part.folder.name
        if part.incomplete:
            more = f", and {len(part.incomplete) - 1} more that are incomplete" if part.incomplete[1:] else ""
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
            problem = f"{part.folder} has samples without an image in a known format: {kinds}"
            first = f"{folder}/{part.found.first[imageless[0]]}"
            self._remark("imageless", f"{problem}, the first {first}", sum(counts[kind] for kind in imageless))
        beside = [f"{count} {kind.partition(' ')[2]}" for kind, count in counts.items() if kind.startswith("beside ")]
        if beside:
            self.faults.facts[f"ignored_{folder}"] = ", ".join(beside)

    def _remark(self, kind: str, problem: str, count: int) -> None:
        """Count what is left out without being an error."""
        self.faults.facts[f"skipped_{kind}"] = int(self.faults.facts[f"skipped_{kind}"]) + count
        if self._findings is not None:
            self._findings.note(kind, problem, count)

    def _captions_from(self, part: shards.Shards, table: _Table) -> str:
        """How the images without a caption can get one."""
        counts, first = part.found.counts, part.found.first
        write = "write each caption to a .txt with the name of its image"
        if counts["illegible"]:
            problem = f"{counts['illegible']} of their files are not UTF-8 text, the first {first['illegible']}"
            return f"{problem}: save them as UTF-8"
        if counts["beside .cls"]:
            return f"there are labels (.cls) but no captions: {write}"
        if counts["unnumbered"]:
            return f"image names are not row numbers of {table.file.name}: {write}"
        if table.stamp:
            return f"{table.file.name} has no caption for these names: {write}, or remove copies"
        return f"put {table.file.name} into {self.root} or {write}"


class _Table:
    """An optional TSV of captions, read on demand; its number of rows is cached."""

    def __init__(self, file: Path, cache: Path | None) -> None:
        self.file = file
        status = file.stat() if file.is_file() else None
        self.stamp = [str(file.resolve()), status.st_size, status.st_mtime_ns] if status else None
        self._rows_file = (
            cache / f"tsv-{hashlib.sha256(json.dumps(self.stamp).encode()).hexdigest()[:24]}.npy" if cache else None
        )

    @cached_property
    def _table(self) -> tsv.CaptionTable:
        return tsv.read(self.file)

    def read(self) -> tsv.CaptionTable | None:
        return self._table if self.stamp else None

    @cached_property
    def rows(self) -> int:
        if not self.stamp:
            return 0
        if (cached := load_array(self._rows_file, np.int64, 1)) is None:
            cached = np.array([len(self._table)])
            save_array(self._rows_file, cached)
        return int(cached[0])
