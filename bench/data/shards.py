"""Image-caption pairs written by img2dataset: numbered folders of files, or WebDataset tars of the same files.

Each shard is indexed once; its index is cached until the shard changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Findings
from bench.data import shard_cache, shard_counts
from bench.data.columns import Paths, Texts
from bench.data.decoding import decode
from bench.data.duplicates import Read
from bench.data.files import CachedImages, ImageFiles
from bench.data.samples import IMAGES, TableReader, hidden, shown
from bench.errors import UserError

Layout = Literal["auto", "files", "tars"]

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LEDGERS = (".parquet", ".json")


@dataclass(frozen=True, eq=False)
class Shards:
    """The pairs of all shards of a folder, in order.

    Attributes
    ----------
    folder : Path
        The folder that contains the shards.
    shards : tuple of str
        Names of the shards.
    tars : bool
        Whether the shards are tars.
    shard_of : int32 (n,)
        The index in `shards` of each pair.
    names, sizes, offsets
        As in `Index`.
    captions : Texts
        The captions; empty for an image without one.
    found : Findings
        Faults by kind: the number of files and the first one, as SHARD/NAME.
    incomplete : tuple of str
        Why shards are incomplete.
    """

    folder: Path
    shards: tuple[str, ...]
    tars: bool
    shard_of: NDArray[np.int32]
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    captions: Texts
    found: Findings
    incomplete: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: NDArray[np.int64]) -> Shards:
        """The pairs at `rows`, int64 (k,)."""
        columns = {name: getattr(self, name)[rows] for name in ("shard_of", "names", "sizes", "offsets")}
        return replace(self, **columns, captions=self.captions.select(rows))

    def uids(self, prefix: str) -> Sequence[str]:
        """PREFIX/SHARD/NAME for each pair."""
        return Paths(prefix, self.shards, self.shard_of, self.names)

    def images(self, side: int) -> CachedImages:
        """The images, square, with `side` pixels."""
        paths = self.uids(os.fspath(self.folder))
        return TarImages(self, side) if self.tars else ImageFiles(paths, side)

    def encoded(self) -> Read:
        """A reader of the images as they are stored; an unreadable image equals no other."""
        files = [os.fspath(self.folder / name) for name in self.shards] if self.tars else self.uids(os.fspath(self.folder))

        def read(row: int, start: int, count: int) -> bytes:
            try:
                handle = os.open(files[self.shard_of[row]] if self.tars else files[row], os.O_RDONLY)
                try:
                    return os.pread(handle, min(count, int(self.sizes[row]) - start), int(self.offsets[row]) + start)
                finally:
                    os.close(handle)
            except OSError:
                return f"{self.folder} {row}".encode()

        return read

    def digest(self) -> str:
        """sha256 of names, sizes, offsets and captions."""
        known = hashlib.sha256(json.dumps([self.shards, self.tars, str(self.names.dtype)]).encode())
        for column in (self.shard_of, self.names, self.sizes, self.offsets):
            known.update(np.ascontiguousarray(column).tobytes())
        known.update(self.captions.digest())
        return known.hexdigest()


class TarImages(CachedImages):
    """Images in tars, read in place; see `CachedImages`."""

    def __init__(self, shards: Shards, side: int) -> None:
        super().__init__(len(shards), side)
        self._paths = shards.uids(os.fspath(shards.folder))
        self._tars = [os.fspath(shards.folder / name) for name in shards.shards]
        self._tar_of, self._sizes, self._offsets = shards.shard_of, shards.sizes, shards.offsets

    def files(self) -> Sequence[str | Path]:
        return self._tars

    def _image(self, index: int) -> NDArray[np.uint8]:
        path, size = self._paths[index], int(self._sizes[index])
        try:
            with open(self._tars[self._tar_of[index]], "rb") as tar:
                tar.seek(int(self._offsets[index]))
                return decode(path, self._side, tar.read(size))
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is missing: restore it") from error


def read(folder: Path, layout: Layout, table: TableReader, stamp: object, cache: Path | None) -> Shards:
    """Open the shards of a folder. Faults within them are noted in the result.

    Parameters
    ----------
    folder : Path
        The folder that contains the shards.
    layout : {"auto", "files", "tars"}
        Which shards to read; auto prefers folders of files.
    table : callable
        Reads the table that the images were downloaded from; returns None if there is none.
    stamp : object
        Plain data that changes with the table.
    cache : Path or None
        Where indices are cached.

    Raises
    ------
    UserError
        If there are no shards, or one cannot be opened.
    """
    found = Findings()
    shards, tars = _shards(folder, layout, found)
    paths, incomplete = [folder / name for name in shards], []
    indices = shard_cache.indices(paths, table, stamp, cache)
    for name, path, index in zip(shards, paths, indices, strict=True):
        notes = shard_cache.notes_of(index)
        for kind, (count, first) in notes.found.items():
            found.note(kind, f"{shown(name)}/{first}", count)
        shortfall = shard_counts.shortfall(path, notes.samples)
        if notes.flaw or shortfall:
            incomplete.append(f"{path} is incomplete: {' and '.join(filter(None, (notes.flaw, shortfall)))}")
    begins = np.cumsum([0, *(len(index.buffer) for index in indices)])
    starts = np.concatenate([index.starts + begin for index, begin in zip(indices, begins[:-1], strict=True)])
    ends = np.concatenate([index.ends + begin for index, begin in zip(indices, begins[:-1], strict=True)])
    return Shards(
        folder,
        tuple(shards),
        tars,
        np.repeat(np.arange(len(indices), dtype=np.int32), [len(index.names) for index in indices]),
        names=np.concatenate([index.names for index in indices]),
        sizes=np.concatenate([index.sizes for index in indices]),
        offsets=np.concatenate([index.offsets for index in indices]),
        captions=Texts(np.concatenate([index.buffer for index in indices]), starts, ends),
        found=found,
        incomplete=tuple(incomplete),
    )


def _shards(folder: Path, layout: Layout, found: Findings) -> tuple[list[str], bool]:
    """Names of the shards, and whether they are tars. Other files in the folder are noted."""
    try:
        entries = sorted(name for name in os.listdir(folder) if not hidden(name))
    except OSError as error:
        hint = "it should be the folder that img2dataset wrote, with 00000/ or 00000.tar in it"
        raise UserError(f"{folder} cannot be read ({error.strerror}): {hint}") from error
    numbered = [name for name in entries if name.isascii() and name.isdecimal()]
    tarred = [name for name in entries if name.lower().endswith(".tar")]
    folders = [name for name in numbered if (folder / name).is_dir()]
    tars = [name for name in tarred if (folder / name).is_file()]
    if layout != "files":
        _check(folder, layout, folders, tars, entries)
    by_folder = layout == "files" or (layout == "auto" and bool(folders))
    chosen, named = (folders, numbered) if by_folder else (tars, tarred)
    for name in sorted({*named} - {*chosen}):
        found.note("missing", shown(name))
    for name in entries:
        if name not in {*numbered, *tarred} and not name.startswith("_") and not name.lower().endswith(_LEDGERS):
            found.note(f"beside {_kind(name)}", shown(name))
    if chosen:
        return chosen, not by_folder
    wanted = {"auto": "00000/ or 00000.tar", "files": "00000/", "tars": "00000.tar"}[layout]
    images = [name for name in entries if os.path.splitext(name)[1].lower() in IMAGES]
    hint = "it should be a folder that img2dataset wrote"
    if images:
        hint = f"move its images, such as {shown(images[0])}, and their captions into a subfolder 00000/"
    elif entries:
        hint += f", but it contains {shown(entries[0])}"
    raise UserError(f"{folder} contains no shards such as {wanted}: {hint}")


def _check(folder: Path, layout: Layout, folders: Sequence[str], tars: Sequence[str], entries: Sequence[str]) -> None:
    """Raises UserError if some of the shards would be ignored."""
    stems = {*folders, *(name[: -len(".tar")] for name in tars)}
    for name in entries:
        for ending in _COMPRESSED:
            if name.lower().endswith(ending) and name[: -len(ending)] not in stems:
                hint = "decompress it and all like it to plain tars, for example with gunzip: tars are read in place"
                raise UserError(f"{folder / shown(name)} is a compressed tar: {hint}")
    alone = [name for name in tars if name[: -len(".tar")] not in folders]
    if layout == "auto" and folders and alone:
        problem = f"{folder} contains the folder {folders[0]}/ and the tar {shown(alone[0])}, which has no folder of its own"
        raise UserError(f"{problem}: choose with --set data.layout=files or tars, or remove one kind")


def _kind(name: str) -> str:
    return shown(os.path.splitext(name)[1].lower()) or "files or folders without a suffix"
