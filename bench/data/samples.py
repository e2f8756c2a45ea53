"""The samples of one shard: which files belong together, and which caption an image has.

A sample is the files of one name. Its caption is that of its .txt, else of its .json, else the row of its number in the table
that the images were downloaded from.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.api.data import Findings
from bench.data.tsv import CaptionTable
from bench.text import encodable

TableReader = Callable[[], CaptionTable | None]
Place = tuple[int, int]
"""Bytes of an image, and where they begin in the tar; 0 in a folder."""

IMAGES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".tif",
        ".tiff",
        ".bmp",
        ".jp2",
        ".j2k",
        ".avif",
        ".ppm",
        ".pgm",
    )
)
TEXTS = (".txt", ".json")


class Index(NamedTuple):
    """One shard. names: S (n,), file names of images, sorted; sizes, offsets: int64 (n,), see `Place`; starts, ends: int64
    (n,), captions in `buffer`, uint8; notes: JSON of `Notes`.
    """

    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    buffer: NDArray[np.uint8]
    notes: NDArray[np.str_]


class Notes(NamedTuple):
    """What an index says of its shard.

    found: of each kind of fault how many, and the first file. flaw: why a tar is not whole. samples: how many images there
    were, with those left out. tabled: whether captions were looked for in the table. probes: what `bench.data.shards` knows
    some of a folder's texts by.
    """

    found: dict[str, tuple[int, str]]
    flaw: str
    samples: int
    tabled: bool
    probes: list[list[Any]]


def hidden(path: str) -> bool:
    """Whether a file is no data: macOS's `._NAME`, `.DS_Store` and `__MACOSX/`, and whatever else begins with a dot."""
    if not path.startswith((".", "_")) and "/" not in path:
        return False
    return any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in path.split("/"))


def shown(name: str) -> str:
    """A file's name for one line of UTF-8 text."""
    return name if name.isprintable() else ascii(name)[1:-1]


class Samples:
    """Collects the files of a shard; `read` gives a text's bytes from what it was added with, None where it has none."""

    def __init__(self, read: Callable[[Any], bytes | None]) -> None:
        self._read = read
        self._images: dict[str, tuple[str, Place]] = {}
        self._lost: set[str] = set()
        self._texts: dict[tuple[str, str], Any] = {}
        self._others: list[tuple[str, str, str]] = []
        self._illegible: dict[str, None] = {}
        self._found = Findings()

    def add(self, name: str, place: Callable[[], Place | None], text: Any) -> None:
        """A file: `place` says where an image lies, None where it is no regular file."""
        if hidden(name):
            return
        stem, ending = os.path.splitext(name)
        kind = ending.lower()
        if kind in TEXTS:
            self._texts.setdefault((stem, kind), text)
        elif kind in IMAGES:
            self._image(name, stem, place())
        else:
            self._others.append((stem, kind or "files without an ending", name))

    def _image(self, name: str, stem: str, place: Place | None) -> None:
        if place is None or not _is_text(name):
            self._found.note("missing" if place is None else "misnamed", shown(name))
            self._lost.add(stem)
            return
        other = self._images.get(stem)
        if other:
            self._found.note("duplicate", shown(max(name, other[0])))
        if other is None or name < other[0]:
            self._images[stem] = name, place

    def index(self, table: TableReader, flaw: str = "", probes: Sequence[Any] = ()) -> Index:
        """What was collected, with the captions; `table` reads those that the images were downloaded from, if there are any."""
        stems = sorted(self._images, key=lambda stem: self._images[stem][0])
        found = [self._caption(stem) for stem in stems]
        lacking = [row for row, caption in enumerate(found) if caption == b""]
        if lacking and (known := table()) is not None:
            if self._numbered(stems, known):
                for row in lacking:
                    found[row] = self._row(stems[row], known)
            else:
                self._found.note("unnumbered", shown(self._images[stems[0]][0]))
        self._note_the_rest()
        counts = self._found.counts
        samples = len(stems) + counts["duplicate"] + counts["missing"] + counts["misnamed"]
        kinds = {kind: (count, self._found.first[kind]) for kind, count in counts.items()}
        notes = Notes(kinds, flaw, samples, bool(lacking), list(probes))
        captions = [caption or b"" for caption in found]
        places = np.array([self._images[stem][1] for stem in stems], dtype=np.int64).reshape(-1, 2)
        ends = np.cumsum([len(caption) for caption in captions], dtype=np.int64)
        return Index(
            np.array([self._images[stem][0].encode() for stem in stems], dtype="S"),
            places[:, 0],
            places[:, 1],
            np.concatenate((np.zeros(1, dtype=np.int64), ends))[:-1],
            ends,
            np.frombuffer(b"".join(captions), dtype=np.uint8),
            np.array(json.dumps(notes)),
        )

    def _caption(self, stem: str) -> bytes | None:
        """The caption beside an image: empty where there is none, None where its .txt is no text."""
        for kind in TEXTS:
            if (stem, kind) in self._texts:
                content = self._read(self._texts[stem, kind])
                caption = _text(content) if kind == ".txt" else _field(content, "caption")
                if caption:
                    return caption.encode()
                if caption is None:
                    self._illegible[shown(stem + kind)] = None
                    if kind == ".txt":
                        return None
        return b""

    def _numbered(self, stems: Sequence[str], table: CaptionTable) -> bool:
        """Whether the numbers of images are rows of the table, judged by the files beside the first and the last."""
        numbered = [next((stem for stem in order if _number(stem) is not None), "") for order in (stems, reversed(stems))]
        return all(self._agrees(stem, table) for stem in numbered)

    def _agrees(self, stem: str, table: CaptionTable) -> bool:
        row = _number(stem)
        if row is None or row >= len(table):
            return False
        if url := self._url(stem):
            return url == table.urls[row]
        caption = self._caption(stem)
        return not caption or caption == table.captions[row].strip().encode()

    def _row(self, stem: str, table: CaptionTable) -> bytes:
        """The caption in the table's row of an image's number, unless the image was downloaded from elsewhere."""
        row = _number(stem)
        if row is None or row >= len(table) or ((url := self._url(stem)) and url != table.urls[row]):
            return b""
        return table.captions[row].strip().encode()

    def _url(self, stem: str) -> str:
        return _field(self._read(self._texts[stem, ".json"]), "url") or "" if (stem, ".json") in self._texts else ""

    def _note_the_rest(self) -> None:
        """Notes texts that cannot be read, texts without an image by the ending of what is in its place, and unknown files."""
        self._found.note("illegible", next(iter(self._illegible), ""), len(self._illegible))
        images = self._images.keys() | self._lost
        alone: dict[str, str] = {}
        for stem, kind in self._texts:
            if stem not in images:
                alone[stem] = max(kind, alone.get(stem, ""))
        unknown: dict[str, str] = {}
        for stem, kind, name in sorted(self._others):
            if stem in alone:
                unknown[stem] = kind
            else:
                self._found.note(f"beside {shown(kind)}", shown(name))
        for stem, kind in sorted(alone.items()):
            self._found.note(f"imageless {shown(unknown.get(stem, kind))}", shown(stem + unknown.get(stem, kind)))


def _number(stem: str) -> int | None:
    name = stem.rpartition("/")[2]
    return int(name) if name.isascii() and name.isdecimal() and len(name) <= 18 else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(content: bytes | None) -> str | None:
    """A .txt without the spaces around it; None where it is not UTF-8."""
    if content is None or b"\0" in content:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig").strip()
    return None


def _field(content: bytes | None, name: str) -> str | None:
    """A text in a .json, without the spaces around it and with U+FFFD for a lone surrogate; empty where there is none.

    None where the file is no JSON.
    """
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content or b"")
        text = found.get(name) if isinstance(found, dict) else None
        return encodable(text).strip() if isinstance(text, str) else ""
    return None
