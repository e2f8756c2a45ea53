"""A TSV of captions and addresses, indexed without a Python object for each line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.columns import Texts
from bench.errors import UserError

_HEADERS = ({"caption", "url"}, {"caption", "image_url"})
_BLOCK = 1 << 24
_LOOK = 100


@dataclass(frozen=True, eq=False)
class CaptionTable:
    """Captions and addresses by row, without the header that img2dataset requires.

    A line without a tab or without a caption has an empty caption.
    """

    captions: Texts
    urls: Texts

    def __len__(self) -> int:
        return len(self.captions)


def read(file: Path) -> CaptionTable:
    """Index a file with lines CAPTION tab URL, as CC3M's, or URL tab CAPTION, as CC12M's.

    Raises UserError if it cannot be read, is empty, or is not UTF-8.
    """
    try:
        if not file.stat().st_size:
            raise UserError(f"{file} is empty: download it again from https://ai.google.com/research/ConceptualCaptions")
        data = np.asarray(np.memmap(file, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check its permissions") from error
    newlines, tabs = _scan(file, data)
    ends = newlines if len(newlines) and newlines[-1] == len(data) - 1 else np.append(newlines, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1))
    line_ends = ends - (data[np.maximum(ends - 1, 0)] == ord("\r")) * (ends > starts)
    first, after = np.searchsorted(tabs, starts), np.searchsorted(tabs, line_ends)
    fine = after - first == 1
    tab_at = starts.copy()
    tab_at[fine] = tabs[first[fine]]
    left, right = Texts(data, starts, tab_at), Texts(data, np.where(fine, tab_at + 1, line_ends), line_ends)
    header = bool(fine[0]) and {left[0].strip().lower(), right[0].strip().lower()} in _HEADERS
    rows = slice(int(header), None)
    captions, urls = left.select(rows), right.select(rows)
    return CaptionTable(*((urls, captions) if _addresses_first(captions, urls) else (captions, urls)))


def _addresses_first(left: Texts, right: Texts) -> bool:
    """Whether most of the first lines are URL tab CAPTION."""
    addresses = [[text.startswith(("http://", "https://")) for text in side[:_LOOK]] for side in (left, right)]
    return sum(addresses[0]) > sum(addresses[1])


def _scan(file: Path, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets of newlines and of tabs: int64 each. Reads block by block, checking that each is UTF-8."""
    newlines, tabs = [], []
    start, lines = 0, 0
    while start < len(data):
        block = np.asarray(data[start : start + _BLOCK])
        found = np.flatnonzero(block == ord("\n"))
        if start + _BLOCK < len(data) and len(found):
            block = block[: found[-1] + 1]
        content = block.tobytes()
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = lines + content.count(b"\n", 0, error.start) + 1
            raise UserError(f"{file}, line {line} is not UTF-8: save the file as UTF-8") from error
        newlines.append(found + start)
        tabs.append(np.flatnonzero(block == ord("\t")) + start)
        start, lines = start + len(block), lines + len(found)
    return np.concatenate(newlines), np.concatenate(tabs)
