"""Image-caption pairs listed in a CSV or TSV file; column names default to open_clip's."""

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
from bench.data import delimited, duplicates
from bench.data.columns import Column, Texts, TextsBuilder
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, file_size, file_stat, load_array, readable, save_array
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"csv 2, {PIXELS}"
_KINDS = ("missing", "unreadable", "duplicate", "captionless", "malformed")


class CsvPairsParams(PluginParams):
    file: str = Field(default="train.csv", description="file in the data root; ignored if the data root is a file itself")
    image_column: str = Field(
        default="filepath", description="column of image paths, absolute or relative to the file's folder"
    )
    caption_column: str = Field(default="title", description="column of captions")
    separator: str = Field(
        default="auto",
        pattern=r'^(auto|tab|[^"\r\n])$',
        description="a character, or tab; auto picks the one of tab , ; | that the header uses",
    )
    encoding: str = Field(default="auto", description="a Python codec; auto: UTF-8, or UTF-16 if the file starts like it")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip drops rows and images that are damaged or missing")


@register_dataset("csv")
class CsvPairs(Dataset):
    """Pairs of a CSV or TSV file with a header, each row an image path and a caption; there are no labels.

    All rows of an image, including files with the same bytes, are in one split. The vocabulary is ImageNet's; an image shows
    the classes that any of its captions mentions. Duplicate rows are dropped.
    """

    Params = CsvPairsParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`file`, or ROOT if that is a file; see `Dataset.open`."""
        assert isinstance(params, CsvPairsParams)
        file = _file(place, params.file)
        faults = Faults(params.on_error, _KINDS, place.findings)
        rows = _read(file, params, faults)
        named = duplicates.digests(rows.paths.encoded())
        firsts = duplicates.first_occurrence(named)
        sizes, times = _facts(rows, firsts, faults)
        listing = [
            FORMAT,
            params.model_dump(include={"holdout_share", "on_error"}),
            image_size,
            *map(_sha256, (named, duplicates.digests(rows.captions.encoded()), sizes)),
        ]
        fingerprint = hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
        image_of = _images(rows, firsts, sizes, place.cache, [fingerprint, str(file.resolve()), _sha256(times)])
        usable = _usable(rows, sizes, image_of, faults)
        parts = duplicates.split_by_image(image_of, usable, params.holdout_share, 0, f"{file} lists")
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
            facts={"file": file.name, **duplicates.sharing_facts(image_of[usable]), **faults.facts},
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows with an image path and a caption. lines: int64 (n,), where each row starts in the file."""

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
    """Paths, with #2, #3, ... appended for further rows of a path. number: int64 (n,), counted from 0."""

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
        raise UserError("the data set csv needs --data-root: the CSV file, or the folder that contains it")
    file = place.root / name if place.root.is_dir() else place.root
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: give the file with --data-root, or its name in that folder with --set data.file=NAME"
        )
    return file


def _read(file: Path, params: CsvPairsParams, faults: Faults) -> _Rows:
    """Read the rows with an image path and a caption."""
    wanted = params.image_column, params.caption_column
    header, table = delimited.read(file, params.separator, params.encoding, wanted)
    image_at, caption_at = (
        _column(file, header, option, getattr(params, option)) for option in ("image_column", "caption_column")
    )
    lines, paths, captions = array("q"), TextsBuilder(), TextsBuilder()
    for line, cells in table:
        if cells is None:
            hint = 'write "" for a quote in a quoted field, and close every quoted field'
            faults.note("malformed", f"{file}, line {line} has an unbalanced quote: {hint}")
        elif len(cells) != len(header.columns):
            problem = f"{file}, line {line} has {len(cells)} fields where the header has {len(header.columns)}"
            faults.note("malformed", f"{problem}: {_hint(header, len(cells))}")
        elif not (image := cells[image_at].strip()) or "\0" in image:
            faults.note("malformed", f"{file}, line {line} has no image path: add one")
        elif not (caption := cells[caption_at].strip()):
            faults.note("captionless", f"{file}, line {line} has an empty caption: add one")
        else:
            lines.append(line)
            paths.append(os.path.normpath(image))
            captions.append(caption)
    return _Rows(file, paths.texts(), captions.texts(), np.frombuffer(lines, dtype=np.int64))


def _hint(header: delimited.Header, fields: int) -> str:
    if fields < len(header.columns):
        return "complete the row"
    if header.separator == "tab":
        return "remove tabs from captions"
    return "quote fields that contain the separator"


def _column(file: Path, header: delimited.Header, option: str, name: str) -> int:
    try:
        return delimited.find(header.columns, name)
    except LookupError as error:
        columns = f"{len(header.columns)} columns separated by '{header.separator}'"
        if len(header.columns) < 2:
            hint = "set data.separator, and name the columns as in the header"
            raise UserError(f"{file} has no column '{name}', and no separator was found in its first line: {hint}") from error
        raise UserError(f"{file} has no column '{name}' among {columns}, set data.{option}; {error}") from error


def _facts(rows: _Rows, firsts: NDArray[np.int64], faults: Faults) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Size of each row's image in bytes (-1 if it does not exist) and its change time in ns: int64 (n,) each."""
    own = np.flatnonzero(firsts == np.arange(len(firsts)))
    facts = np.zeros((len(firsts), 2), dtype=np.int64)
    folder = os.open(rows.file.parent, os.O_RDONLY)
    try:
        found = (file_stat(path, folder) for path in rows.paths.select(own).encoded())
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
    """The first row with the same image, from the cache if no file has changed: int64 (n,)."""
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    cached = cache / f"images-{name}.npy" if cache else None
    if (found := load_array(cached, np.int64, len(firsts))) is None:
        files, once = rows.files, np.where(firsts == np.arange(len(firsts)), sizes, 0)
        found = duplicates.first_image(once, lambda row, start, count: duplicates.read_bytes(files[row], start, count))[firsts]
        save_array(cached, found)
    return found


def _remedy(rows: _Rows, row: int) -> str:
    """What the user can do about a missing image."""
    path = rows.paths[row]
    if "://" in path or ":/" in path[:8]:
        return "download the images first and list their local paths"
    if "\\" in path and file_size(rows.file.parent / path.replace("\\", "/")) >= 0:
        return "use / instead of \\ in paths"
    if file_size(path) >= 0:
        return f"write the paths relative to {rows.file.parent}, or absolute"
    return "restore them"


def _usable(rows: _Rows, sizes: NDArray[np.int64], image_of: NDArray[np.int64], faults: Faults) -> NDArray[np.int64]:
    """The rows whose image exists, without duplicates of earlier rows: int64."""
    present = np.flatnonzero(sizes >= 0)
    again = duplicates.is_repeated(image_of[present], rows.captions.select(present))
    if again.any():
        row = int(present[again][0])
        problem = (
            f"{rows.file} has {int(again.sum()):,} rows that repeat the image and caption of an earlier row, the first in line"
        )
        faults.note("duplicate", f"{problem} {rows.lines[row]}; remove them", int(again.sum()))
    return present[~again]


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
    cached = cache / f"readable-{fingerprint}.npy" if cache else None
    fine = np.zeros(len(firsts), dtype=np.bool_)
    fine[own] = readable(_Files(rows.file.parent, rows.paths.select(own)), cached)
    faults.note("unreadable", "", len(own) - int(fine.sum()))
    return {part: mine[fine[firsts[mine]]] for part, mine in parts.items()}


def _pairs(
    rows: _Rows, mine: NDArray[np.int64], firsts: NDArray[np.int64], image_of: NDArray[np.int64], image_size: int
) -> Pairs:
    paths, captions = rows.paths.select(mine), rows.captions.select(mine)
    return Pairs(
        uids=_Uids(paths, duplicates.occurrence_number(firsts[mine])),
        captions=captions,
        images=ImageFiles(_Files(rows.file.parent, paths), image_size),
        members=duplicates.ImageMembers(image_of[mine], captions, image_of[mine], MentionIndex(imagenet().names)),
    )
