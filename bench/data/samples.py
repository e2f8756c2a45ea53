"""The samples of one shard: which files belong together, and the caption of each image.

A sample consists of the files with one name and different suffixes. Its caption comes from its .txt, else from its .json, else
from the row of its number in the table that the images were downloaded from.
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
ByteRange = tuple[int, int]
"""Size of an image in bytes, and its offset in the tar; 0 in a folder."""

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
    """The index of one shard.

    Attributes
    ----------
    names : bytes (n,)
        File names of the images, sorted; NumPy's kind S.
    sizes, offsets : int64 (n,)
        See `ByteRange`.
    starts, ends : int64 (n,)
        The bounds of each caption in `buffer`.
    buffer : uint8 (m,)
        Captions in UTF-8.
    notes : str ()
        `ShardNotes` as JSON.
    """

    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    buffer: NDArray[np.uint8]
    notes: NDArray[np.str_]


class ShardNotes(NamedTuple):
    """Facts about a shard, besides its samples.

    Attributes
    ----------
    found : dict of str to (int, str)
        By kind of fault: the number of files and the first one.
    flaw : str
        Why a tar is incomplete; empty if it is not.
    samples : int
        The number of images, including those that are left out.
    tabled : bool
        Whether captions were looked up in the table.
    probes : list
        Name, size and time of some text files of a folder, by which changes are detected.
    """

    found: dict[str, tuple[int, str]]
    flaw: str
    samples: int
    tabled: bool
    probes: list[list[Any]]


def hidden(path: str) -> bool:
    """Whether a file is hidden: its name starts with a dot, or it is macOS's `__MACOSX/`."""
    if not path.startswith((".", "_")) and "/" not in path:
        return False
    return any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in path.split("/"))


def shown(name: str) -> str:
    """A file name in printable form, for messages."""
    return name if name.isprintable() else ascii(name)[1:-1]


class Samples:
    """Groups the files of a shard into samples.

    Parameters
    ----------
    read : callable
        Returns the bytes of a text file, given the `text` that it was added with; None if they cannot be read.
    """

    def __init__(self, read: Callable[[Any], bytes | None]) -> None:
        self._read = read
        self._images: dict[str, tuple[str, ByteRange]] = {}
        self._lost: set[str] = set()
        self._texts: dict[tuple[str, str], Any] = {}
        self._others: list[tuple[str, str, str]] = []
        self._illegible: dict[str, None] = {}
        self._found = Findings()

    def add(self, name: str, locate: Callable[[], ByteRange | None], text: Any) -> None:
        """Add a file.

        Parameters
        ----------
        name : str
            Its name within the shard.
        locate : callable
            Returns the byte range of an image; None if it is not a regular file.
        text : Any
            For a text file, what `read` needs.
        """
        if hidden(name):
            return
        stem, ending = os.path.splitext(name)
        kind = ending.lower()
        if kind in TEXTS:
            self._texts.setdefault((stem, kind), text)
        elif kind in IMAGES:
            self._add_image(name, stem, locate())
        else:
            self._others.append((stem, kind or "files without a suffix", name))

    def _add_image(self, name: str, stem: str, location: ByteRange | None) -> None:
        if location is None or not _is_utf8(name):
            self._found.note("missing" if location is None else "misnamed", shown(name))
            self._lost.add(stem)
            return
        other = self._images.get(stem)
        if other:
            self._found.note("duplicate", shown(max(name, other[0])))
        if other is None or name < other[0]:
            self._images[stem] = name, location

    def index(self, table: TableReader, flaw: str = "", probes: Sequence[Any] = ()) -> Index:
        """The index of the files added. `table` reads the table that the images were downloaded from, if there is one."""
        stems = sorted(self._images, key=lambda stem: self._images[stem][0])
        found = [self._caption(stem) for stem in stems]
        lacking = [row for row, caption in enumerate(found) if caption == b""]
        if lacking and (known := table()) is not None:
            if self._numbered(stems, known):
                for row in lacking:
                    found[row] = self._row(stems[row], known)
            else:
                self._found.note("unnumbered", shown(self._images[stems[0]][0]))
        self._note_other_files()
        counts = self._found.counts
        samples = len(stems) + counts["duplicate"] + counts["missing"] + counts["misnamed"]
        kinds = {kind: (count, self._found.first[kind]) for kind, count in counts.items()}
        notes = ShardNotes(kinds, flaw, samples, bool(lacking), list(probes))
        captions = [caption or b"" for caption in found]
        locations = np.array([self._images[stem][1] for stem in stems], dtype=np.int64).reshape(-1, 2)
        ends = np.cumsum([len(caption) for caption in captions], dtype=np.int64)
        return Index(
            np.array([self._images[stem][0].encode() for stem in stems], dtype="S"),
            locations[:, 0],
            locations[:, 1],
            np.concatenate((np.zeros(1, dtype=np.int64), ends))[:-1],
            ends,
            np.frombuffer(b"".join(captions), dtype=np.uint8),
            np.array(json.dumps(notes)),
        )

    def _caption(self, stem: str) -> bytes | None:
        """The caption from an image's .txt or .json: empty if there is none, None if its .txt is not text."""
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
        """Whether image numbers are row numbers of the table, judged by the files of the first and the last image."""
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
        """The caption in the table, by the image's number; empty if the image was downloaded from another address."""
        row = _number(stem)
        if row is None or row >= len(table) or ((url := self._url(stem)) and url != table.urls[row]):
            return b""
        return table.captions[row].strip().encode()

    def _url(self, stem: str) -> str:
        return _field(self._read(self._texts[stem, ".json"]), "url") or "" if (stem, ".json") in self._texts else ""

    def _note_other_files(self) -> None:
        """Note unreadable texts, texts without an image (by the suffix of their other file), and unknown files."""
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


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(content: bytes | None) -> str | None:
    """The content of a .txt, stripped; None if it is not UTF-8."""
    if content is None or b"\0" in content:
        return None
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig").strip()
    return None


def _field(content: bytes | None, name: str) -> str | None:
    """A string in a .json, stripped and with U+FFFD for lone surrogates; empty if it is missing, None if this is not JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content or b"")
        text = found.get(name) if isinstance(found, dict) else None
        return encodable(text).strip() if isinstance(text, str) else ""
    return None
