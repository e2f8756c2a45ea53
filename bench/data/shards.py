"""Image-caption pairs as img2dataset writes them: numbered folders of files, or WebDataset tars of the same files.

Each shard is indexed once; the index is kept in the cache until the shard changes. Tars are never unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data.columns import Paths, Texts
from bench.data.decoding import decode
from bench.data.files import ImageFiles, KeptImages
from bench.data.tsv import CaptionTable
from bench.errors import UserError

Layout = Literal["auto", "files", "tars"]
TableReader = Callable[[], CaptionTable | None]

_FORMAT = 1
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_MAX_TEXT = 2**20
"""Bytes of a .txt or .json beside an image; what is longer is no caption."""


class _Index(NamedTuple):
    """One shard. names: S (n,), file names of images, sorted; sizes, offsets: int64 (n,), bytes, offsets within the tar,
    0 in a folder; starts, ends: int64 (n,), captions in `buffer`, uint8; duplicates: int64 (), images left out as their name
    recurs.
    """

    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    buffer: NDArray[np.uint8]
    duplicates: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shards:
    """The pairs of all shards of a folder, in order; columns as in `_Index`, `shard_of` int32 (n,)."""

    folder: Path
    shards: tuple[str, ...]
    tars: bool
    shard_of: NDArray[np.int32]
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    captions: Texts
    duplicates: int

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
    with it. Raises UserError when there are no shards, or when one cannot be read.
    """
    shards, tars = _shards(folder, layout)
    found = []
    for name in shards:
        path = folder / name
        make = (lambda path=path: _tar(path)) if tars else (lambda path=path: _folder(path, table()))
        found.append(_kept(path, [_FORMAT, _stamp(path, tars), None if tars else stamp], cache, make))
    begins = np.cumsum([0, *(len(index.buffer) for index in found)])
    starts = np.concatenate([index.starts + begin for index, begin in zip(found, begins[:-1], strict=True)])
    ends = np.concatenate([index.ends + begin for index, begin in zip(found, begins[:-1], strict=True)])
    return Shards(
        folder,
        tuple(shards),
        tars,
        np.repeat(np.arange(len(found), dtype=np.int32), [len(index.names) for index in found]),
        names=np.concatenate([index.names for index in found]),
        sizes=np.concatenate([index.sizes for index in found]),
        offsets=np.concatenate([index.offsets for index in found]),
        captions=Texts(np.concatenate([index.buffer for index in found]), starts, ends),
        duplicates=int(sum(index.duplicates for index in found)),
    )


def _shards(folder: Path, layout: Layout) -> tuple[list[str], bool]:
    """Names of the shards, and whether they are tars."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        hint = "the folder that img2dataset wrote, with 00000/ or 00000.tar in it"
        raise UserError(f"{folder} cannot be read ({error.strerror}): put there {hint}") from error
    folders = [name for name in entries if name.isdigit() and (folder / name).is_dir()]
    tars = [name for name in entries if name.endswith(".tar")]
    if layout != "tars" and folders:
        return folders, False
    if layout != "files" and tars:
        return tars, True
    wanted = {"auto": "00000/ or 00000.tar", "files": "00000/", "tars": "00000.tar"}[layout]
    raise UserError(f"{folder} holds no shards such as {wanted}: put there what img2dataset wrote")


def _stamp(path: Path, tar: bool) -> list[object]:
    """Changes with a shard: a tar's size and time; a folder's time and those of the notes that img2dataset leaves beside it."""
    beside = [] if tar else [path.with_name(f"{path.name}{end}") for end in (".parquet", "_stats.json")]
    facts = [each.stat() for each in (path, *beside) if each.exists()]
    return [[fact.st_size if tar else 0, fact.st_mtime_ns] for fact in facts]


def _kept(path: Path, stamp: list[object], cache: Path | None, make: Callable[[], _Index]) -> _Index:
    """The index of a shard from the cache, if `stamp` is still the same, else made and kept."""
    if cache is None:
        return make()
    file = cache / "shards" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]}.npz"
    written = json.dumps(stamp)
    with contextlib.suppress(Exception), np.load(file, allow_pickle=False) as kept:  # a damaged note is made anew
        if str(kept["stamp"]) == written:
            return _Index(*(kept[column] for column in _Index._fields))
    index = make()
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(draft, stamp=np.array(written), **index._asdict())
        os.replace(draft, file)
    except OSError:
        draft.unlink(missing_ok=True)
    return index


def _index(entries: dict[str, tuple[int, int]], captions: Sequence[bytes], duplicates: int) -> _Index:
    """`entries` gives the size and offset of each image, in the order of `captions`."""
    numbers = np.array(list(entries.values()), dtype=np.int64).reshape(-1, 2)
    ends = np.cumsum([len(caption) for caption in captions], dtype=np.int64)
    starts = np.concatenate((np.zeros(1, dtype=np.int64), ends))[:-1]
    buffer = np.frombuffer(b"".join(captions), dtype=np.uint8)
    return _Index(
        np.array([*map(str.encode, entries)], dtype="S"),
        numbers[:, 0],
        numbers[:, 1],
        starts,
        ends,
        buffer,
        np.array(duplicates),
    )


def _folder(folder: Path, table: CaptionTable | None) -> _Index:
    """Captions are those of the table's rows, whose numbers are the images' names, where the files beside the first and the
    last image confirm it, else those in the files beside each image.
    """
    try:
        with os.scandir(folder) as found:
            sizes = {entry.name: entry.stat().st_size for entry in found if entry.name.lower().endswith(_IMAGES)}
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): give a folder that you may read") from error
    names = sorted(sizes)
    if table is not None and all(_agrees(folder, name, table) for name in {*names[:1], *names[-1:]}):
        captions = [table.captions[int(Path(name).stem)].strip().encode() for name in names]
    else:
        captions = [_caption(_bytes(folder, name, ".txt"), _bytes(folder, name, ".json")) for name in names]
    return _index({name: (sizes[name], 0) for name in names}, captions, 0)


def _agrees(folder: Path, name: str, table: CaptionTable) -> bool:
    """Whether an image's number is its row in the table, as far as the files beside it say."""
    stem = Path(name).stem
    if not stem.isdigit() or int(stem) >= len(table):
        return False
    if url := _field(_bytes(folder, name, ".json"), "url"):
        return url == table.urls[int(stem)]
    text = _bytes(folder, name, ".txt")
    return text is None or text.strip() == table.captions[int(stem)].strip().encode()


def _bytes(folder: Path, name: str, ending: str) -> bytes | None:
    try:
        with (folder / name).with_suffix(ending).open("rb") as stream:
            content = stream.read(_MAX_TEXT + 1)
    except FileNotFoundError:
        return None
    return content if len(content) <= _MAX_TEXT else None


def _field(content: bytes | None, name: str) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content or b"{}")
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return str(found[name])
    return ""


def _caption(text: bytes | None, notes: bytes | None) -> bytes:
    """The caption in the .txt or .json beside an image; empty where neither is UTF-8 text."""
    with contextlib.suppress(UnicodeDecodeError):
        if caption := (text or b"").decode().strip():
            return caption.encode()
    return _field(notes, "caption").strip().encode()


def _tar(file: Path) -> _Index:
    images: dict[str, tuple[str, int, int]] = {}
    beside: dict[tuple[str, str], bytes] = {}
    duplicates = 0
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                stem, ending = os.path.splitext(member.name.removeprefix("./"))
                ending = ending.lower()
                if member.isfile() and ending in _IMAGES:
                    duplicates += stem in images
                    images.setdefault(stem, (f"{stem}{ending}", member.size, member.offset_data))
                elif member.isfile() and ending in (".txt", ".json") and member.size <= _MAX_TEXT:
                    content = tar.extractfile(member)
                    beside.setdefault((stem, ending), content.read() if content else b"")
            end = tar.offset
        with file.open("rb") as rest:
            rest.seek(end)
            if rest.read().strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {end}")
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{file} cannot be read as a tar ({error}): download this shard again") from error
    captions = [_caption(beside.get((stem, ".txt")), beside.get((stem, ".json"))) for stem in images]
    return _index({name: (size, offset) for name, size, offset in images.values()}, captions, duplicates)
