"""Image-caption pairs listed in a CSV or TSV file, with open_clip's defaults for its columns."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs
from bench.api.plugin import Params as PluginParams
from bench.data import delimited, same
from bench.data.columns import Column, Texts, TextsMaker
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, file_facts, file_size, keep_array, kept_array, readable
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"csv 2, {PIXELS}"
_KINDS = ("missing", "unreadable", "duplicate", "captionless", "malformed")


class CsvPairsParams(PluginParams):
    file: str = Field(default="train.csv", description="the file within the data root, unless that is a file itself")
    image_column: str = Field(default="filepath", description="image paths, absolute or relative to the file's folder")
    caption_column: str = Field(default="title", description="column of captions")
    separator: str = Field(
        default="auto",
        pattern=r'^(auto|tab|[^"\r\n])$',
        description="a character, or tab; auto: of tab , ; | that which the header has",
    )
    encoding: str = Field(default="auto", description="a codec's name; auto: UTF-8, or UTF-16 if the file begins like it")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip leaves out rows and images that are damaged or missing")


@register_dataset("csv")
class CsvPairs(Dataset):
    """Pairs of a CSV or TSV file with a header: one row an image path and its caption, no labels.

    An image may have several rows, and several names: all rows whose files have the same bytes stay on one side of the
    split, and its classes are the ImageNet classes that any of their captions mentions. Equal rows are left out as
    duplicates.
    """

    Params = CsvPairsParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`file`, or ROOT where that is a file; see `Dataset.open`."""
        assert isinstance(params, CsvPairsParams)
        file = _file(place, params.file)
        faults = Faults(params.on_error, _KINDS, place.findings)
        rows = _read(file, params, faults)
        named = same.digests(rows.paths.encoded())
        firsts = same.first_of(named)
        sizes, times = _facts(rows, firsts, faults)
        listing = [
            FORMAT,
            params.model_dump(include={"holdout_share", "on_error"}),
            image_size,
            *map(_sha256, (named, same.digests(rows.captions.encoded()), sizes)),
        ]
        fingerprint = hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
        image_of = _images(rows, firsts, sizes, place.cache, [fingerprint, str(file.resolve()), _sha256(times)])
        usable = _usable(rows, sizes, image_of, faults)
        parts = same.split(image_of, usable, params.holdout_share, 0, f"{file} lists")
        if faults.skip:
            parts = _readable(rows, parts, firsts, place.cache, fingerprint, faults)
        for part, mine in parts.items():
            if not len(mine):
                raise UserError(f"{file} has no readable images for the part '{part}': give more images")
        pairs = {part: _pairs(rows, mine, firsts, image_of, image_size) for part, mine in parts.items()}
        return DatasetBundle(
            fingerprint,
            image_size,
            imagenet(),
            pairs["train"],
            pairs["holdout"],
            pairs["test"],
            tasks=(),
            task_reason="a CSV of captions has no labels",
            facts={"file": file.name, **same.sharing(image_of[usable]), **faults.facts},
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows that name an image and have a caption; lines: int64 (n,), that each starts at."""

    file: Path
    paths: Texts
    captions: Texts
    lines: NDArray[np.int64]

    @property
    def files(self) -> Sequence[str]:
        return _Files(self.file.parent, self.paths)


def _sha256(column: NDArray[Any]) -> str:
    return hashlib.sha256(column.tobytes()).hexdigest()


class _Files(Column[str]):
    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self._folder = os.fspath(folder)
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def _at(self, row: int) -> str:
        return os.path.join(self._folder, self._paths[row])


class _Uids(Column[str]):
    """Paths, with #2, #3 ... for further rows of a path; number: int64 (n,), from 0."""

    def __init__(self, paths: Sequence[str], number: NDArray[np.int64]) -> None:
        self._paths = paths
        self._number = number

    def __len__(self) -> int:
        return len(self._paths)

    def _at(self, row: int) -> str:
        number = self._number[row]
        return f"{self._paths[row]}#{number + 1}" if number else self._paths[row]


def _file(place: DataPlace, name: str) -> Path:
    if place.root is None:
        raise UserError("the data set csv needs --data-root: the CSV file, or the folder that holds it")
    file = place.root / name if place.root.is_dir() else place.root
    if not file.is_file():
        raise UserError(f"{file} does not exist: name the file with --data-root, or within it with --set data.file=NAME")
    return file


def _read(file: Path, params: CsvPairsParams, faults: Faults) -> _Rows:
    """The rows that name an image and have a caption."""
    wanted = params.image_column, params.caption_column
    header, table = delimited.read(file, params.separator, params.encoding, wanted)
    image_at, caption_at = (
        _column(file, header, option, getattr(params, option)) for option in ("image_column", "caption_column")
    )
    lines, paths, captions = array("q"), TextsMaker(), TextsMaker()
    for line, cells in table:
        if cells is None:
            hint = 'write "" for a quote within a quoted field, and close each quote that begins a field'
            faults.note("malformed", f"{file}, line {line} has an unbalanced quote: {hint}")
        elif len(cells) != len(header.columns):
            problem = f"{file}, line {line} has {len(cells)} fields where the header has {len(header.columns)}"
            faults.note("malformed", f"{problem}: {_hint(header, len(cells))}")
        elif not (image := cells[image_at].strip()) or "\0" in image:
            faults.note("malformed", f"{file}, line {line} names no image: give its path")
        elif not (caption := cells[caption_at].strip()):
            faults.note("captionless", f"{file}, line {line} has an empty caption: give one")
        else:
            lines.append(line)
            paths.append(os.path.normpath(image))
            captions.append(caption)
    return _Rows(file, paths.texts(), captions.texts(), np.frombuffer(lines, dtype=np.int64))


def _hint(header: delimited.Header, fields: int) -> str:
    if fields < len(header.columns):
        return "complete the row"
    if header.separator == "tab":
        return "write no tab into a caption"
    return "quote the field that holds the separator"


def _column(file: Path, header: delimited.Header, option: str, name: str) -> int:
    try:
        return delimited.find(header.columns, name)
    except LookupError as error:
        columns = f"{len(header.columns)} columns separated by '{header.separator}'"
        if len(header.columns) < 2:
            hint = "name its separator with --set data.separator=, and the columns by their header"
            raise UserError(f"{file} has no column '{name}', and no separator was found in its first line: {hint}") from error
        raise UserError(f"{file} has no column '{name}' among {columns}, set data.{option}; {error}") from error


def _facts(rows: _Rows, firsts: NDArray[np.int64], faults: Faults) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of each row's image, -1 where it does not exist, and when it changed: int64 (n,)."""
    own = np.flatnonzero(firsts == np.arange(len(firsts)))
    facts = np.zeros((len(firsts), 2), dtype=np.int64)
    folder = os.open(rows.file.parent, os.O_RDONLY)
    try:
        found = (file_facts(path, folder) for path in rows.paths.select(own).encoded())
        facts[own] = np.fromiter(found, dtype=np.dtype((np.int64, 2)), count=len(own))
    finally:
        os.close(folder)
    sizes = facts[:, 0]
    missing = own[sizes[own] < 0]
    if len(missing):
        first = int(missing[0])
        problem = f"{rows.file} lists {len(missing):,} images that do not exist, the first in line {rows.lines[first]}"
        faults.note("missing", f"{problem}: {rows.files[first]}; {_remedy(rows, first)}", len(missing))
    return sizes[firsts], facts[firsts, 1]


def _images(
    rows: _Rows, firsts: NDArray[np.int64], sizes: NDArray[np.int64], cache: Path | None, key: list[str]
) -> NDArray[np.int64]:
    """The first row that has the same image, from the cache where no file has changed: int64 (n,)."""
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    note = cache / f"images-{name}.npy" if cache else None
    if (found := kept_array(note, np.int64, len(firsts))) is None:
        files, once = rows.files, np.where(firsts == np.arange(len(firsts)), sizes, 0)
        found = same.first_image(once, lambda row, start, count: same.piece(files[row], start, count))[firsts]
        keep_array(note, found)
    return found


def _remedy(rows: _Rows, row: int) -> str:
    """What helps against a missing image."""
    path = rows.paths[row]
    if "://" in path or ":/" in path[:8]:
        return "download the images first, and list their paths"
    if "\\" in path and file_size(rows.file.parent / path.replace("\\", "/")) >= 0:
        return "write / for \\ in the paths"
    if file_size(path) >= 0:
        return f"write the paths relative to {rows.file.parent}, or absolute"
    return "restore them"


def _usable(rows: _Rows, sizes: NDArray[np.int64], image_of: NDArray[np.int64], faults: Faults) -> NDArray[np.int64]:
    """The rows with an image that equal none before, int64."""
    there = np.flatnonzero(sizes >= 0)
    again = same.repeated(image_of[there], rows.captions.select(there))
    if again.any():
        row = int(there[again][0])
        problem = f"{rows.file} has {int(again.sum()):,} rows whose image and caption a row before has, the first in line"
        faults.note("duplicate", f"{problem} {rows.lines[row]}; remove them", int(again.sum()))
    return there[~again]


def _readable(
    rows: _Rows,
    parts: dict[str, NDArray[np.int64]],
    firsts: NDArray[np.int64],
    cache: Path | None,
    fingerprint: str,
    faults: Faults,
) -> dict[str, NDArray[np.int64]]:
    """The rows of each part whose image can be decoded."""
    own = np.unique(firsts[np.concatenate(list(parts.values()))])
    note = cache / f"readable-{fingerprint}.npy" if cache else None
    fine = np.zeros(len(firsts), dtype=np.bool_)
    fine[own] = readable(_Files(rows.file.parent, rows.paths.select(own)), note)
    faults.note("unreadable", "", len(own) - int(fine.sum()))
    return {part: mine[fine[firsts[mine]]] for part, mine in parts.items()}


def _pairs(
    rows: _Rows, mine: NDArray[np.int64], firsts: NDArray[np.int64], image_of: NDArray[np.int64], image_size: int
) -> Pairs:
    paths, captions = rows.paths.select(mine), rows.captions.select(mine)
    return Pairs(
        uids=_Uids(paths, same.number(firsts[mine])),
        captions=captions,
        images=ImageFiles(_Files(rows.file.parent, paths), image_size),
        members=same.ImageMembers(image_of[mine], captions, image_of[mine], MentionIndex(imagenet().names)),
    )
