"""Image-caption pairs as img2dataset writes them: numbered folders of files, or WebDataset tars of the same files.

Each shard is indexed once; the index is kept in the cache until the shard changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Findings
from bench.data import ledger
from bench.data.columns import Paths, Texts
from bench.data.decoding import decode
from bench.data.files import ImageFiles, KeptImages
from bench.data.same import Read
from bench.data.samples import IMAGES, Index, Notes, TableReader, hidden, shown
from bench.data.shard_index import of_folder, of_tar, probe
from bench.errors import UserError

Layout = Literal["auto", "files", "tars"]

_FORMAT = 2
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LEDGERS = (".parquet", ".json")


@dataclass(frozen=True, eq=False)
class Shards:
    """The pairs of all shards of a folder, in order; columns as in `Index`, `shard_of` int32 (n,).

    found: of each kind of fault how many, and the first file, as SHARD/NAME. incomplete: why shards are not whole.
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
        """The pairs at `rows`, int64 (n,)."""
        columns = {name: getattr(self, name)[rows] for name in ("shard_of", "names", "sizes", "offsets")}
        return replace(self, **columns, captions=self.captions.select(rows))

    def uids(self, prefix: str) -> Sequence[str]:
        return Paths(prefix, self.shards, self.shard_of, self.names)

    def images(self, side: int) -> KeptImages:
        paths = self.uids(os.fspath(self.folder))
        return TarImages(self, side) if self.tars else ImageFiles(paths, side)

    def encoded(self) -> Read:
        """Reads bytes of an image as they are stored; one that cannot be read is like no other."""
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
        """Of names, sizes, places and captions."""
        known = hashlib.sha256(json.dumps([self.shards, self.tars, str(self.names.dtype)]).encode())
        for column in (self.shard_of, self.names, self.sizes, self.offsets):
            known.update(np.ascontiguousarray(column).tobytes())
        known.update(self.captions.digest())
        return known.hexdigest()


class TarImages(KeptImages):
    """Images within tars, each read from its place; see `KeptImages`."""

    def __init__(self, shards: Shards, side: int) -> None:
        super().__init__(len(shards), side)
        self._paths = shards.uids(os.fspath(shards.folder))
        self._tars = [os.fspath(shards.folder / name) for name in shards.shards]
        self._tar_of, self._sizes, self._offsets = shards.shard_of, shards.sizes, shards.offsets

    def _image(self, index: int) -> NDArray[np.uint8]:
        path, size = self._paths[index], int(self._sizes[index])
        try:
            with open(self._tars[self._tar_of[index]], "rb") as tar:
                tar.seek(int(self._offsets[index]))
                return decode(path, self._side, tar.read(size))
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is missing: restore it") from error


def read(folder: Path, layout: Layout, table: TableReader, stamp: object, cache: Path | None) -> Shards:
    """Open the shards of `folder`.

    `table` reads the captions that the images were downloaded from, by row, if there are any; `stamp`, plain data, changes
    with it. Raises UserError when there are no shards, or when one cannot be opened; what is wrong within is noted.
    """
    found = Findings()
    shards, tars = _shards(folder, layout, found)
    indices, incomplete = [], []
    for name in shards:
        path = folder / name
        index = _kept(path, stamp, cache, partial(of_tar if tars else of_folder, path, table))
        notes = _notes(index)
        for kind, (count, first) in notes.found.items():
            found.note(kind, f"{shown(name)}/{first}", count)
        lack = ledger.lack(path, notes.samples)
        if notes.flaw or lack:
            incomplete.append(f"{path} is not whole: {' and '.join(filter(None, (notes.flaw, lack)))}")
        indices.append(index)
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
    """Names of the shards, and whether they are tars. Notes what else lies in the folder."""
    try:
        entries = sorted(name for name in os.listdir(folder) if not hidden(name))
    except OSError as error:
        hint = "the folder that img2dataset wrote, with 00000/ or 00000.tar in it"
        raise UserError(f"{folder} cannot be read ({error.strerror}): put there {hint}") from error
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
    hint = "put there what img2dataset wrote"
    if images:
        hint = f"move its images, such as {shown(images[0])}, and their captions into a folder 00000/ within it"
    elif entries:
        hint += f"; there is {shown(entries[0])}"
    raise UserError(f"{folder} holds no shards such as {wanted}: {hint}")


def _check(folder: Path, layout: Layout, folders: Sequence[str], tars: Sequence[str], entries: Sequence[str]) -> None:
    """Raises UserError where a part of the shards would be passed over."""
    stems = {*folders, *(name[: -len(".tar")] for name in tars)}
    for name in entries:
        for ending in _COMPRESSED:
            if name.lower().endswith(ending) and name[: -len(ending)] not in stems:
                hint = "unpack it to a plain tar, such as by gunzip, and all like it: tars are read in place"
                raise UserError(f"{folder / shown(name)} is a compressed tar: {hint}")
    alone = [name for name in tars if name[: -len(".tar")] not in folders]
    if layout == "auto" and folders and alone:
        problem = f"{folder} holds the folder {folders[0]}/ and the tar {shown(alone[0])}, which has no folder beside it"
        raise UserError(f"{problem}: choose with --set data.layout=files or tars, or move one kind away")


def _kind(name: str) -> str:
    return shown(os.path.splitext(name)[1].lower()) or "files or folders without an ending"


def _notes(index: Index) -> Notes:
    return Notes(*json.loads(str(index.notes)))


def _stamp(path: Path) -> list[object]:
    """Changes with a shard: a tar's size and time, a folder's time."""
    facts = path.stat()
    return [facts.st_size if path.is_file() else 0, facts.st_mtime_ns]


def _kept(path: Path, stamp: object, cache: Path | None, make: Callable[[], Index]) -> Index:
    """The index of a shard from the cache, if nothing it was made of has changed, else made and kept.

    `stamp` counts where captions were looked for in the table.
    """
    if cache is None:
        return make()
    file = cache / "shards" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]}.npz"
    written, table = json.dumps([_FORMAT, _stamp(path)]), json.dumps(stamp)
    with contextlib.suppress(Exception), np.load(file, allow_pickle=False) as kept:  # a damaged note is made anew
        if str(kept["stamp"]) == written:
            index = Index(*(kept[column] for column in Index._fields))
            notes = _notes(index)
            if (not notes.tabled or str(kept["table"]) == table) and all(probe(path, each[0]) == each for each in notes.probes):
                return index
    index = make()
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, stamp=np.array(written), table=np.array(table), **index._asdict())
        os.replace(draft, file)
    except OSError:
        draft.unlink(missing_ok=True)
    return index
