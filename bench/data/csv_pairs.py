"""Image-caption pairs listed in a CSV or TSV file; column names default to open_clip's."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle
from bench.api.plugin import Params as PluginParams
from bench.data import delimited, listing, splits
from bench.data.columns import TextsBuilder
from bench.data.decoding import PIXELS
from bench.data.files import Faults
from bench.data.labels import Labels
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"csv 2, {PIXELS}"
_SPLIT_FILES = {"val_file": splits.VAL, "test_file": splits.TEST}


class CsvPairsParams(listing.ListParams):
    later = listing.ListParams.later | {"label_column", "split_column", *_SPLIT_FILES}
    file: str = Field(default="train.csv", description="file in the data root; ignored if the data root is a file itself")
    image_column: str = Field(
        default="filepath", description="column of image paths, absolute or relative to the file's folder"
    )
    caption_column: str | tuple[str, ...] = Field(default="title", description="column of captions, or several of them")
    label_column: str = Field(default="", description="column of labels, which give a downstream task; may be empty in a row")
    split_column: str = Field(default="", description="column of published splits: train, val, test; val is the adversary's")
    val_file: str = Field(default="", description="file of the published val split, beside the first, which is train then")
    test_file: str = Field(default="", description="the same of the test split")
    separator: str = Field(
        default="auto",
        pattern=r'^(auto|tab|[^"\r\n])$',
        description="a character, or tab; auto picks the one of tab , ; | that the header uses",
    )
    encoding: str = Field(default="auto", description="a Python codec; auto: UTF-8, or UTF-16 if the file starts like it")


@register_dataset("csv")
class CsvPairs(Dataset):
    """Pairs of a CSV or TSV file with a header, or of a Flickr30k list, each row an image path and a caption.

    All rows of an image, including files with the same bytes, are in one split. An image shows the classes that its label names
    or any of its captions mentions. Of several caption columns a random one that is not empty is used. Duplicate rows are
    dropped.
    """

    Params = CsvPairsParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`file`, or ROOT if that is a file; see `Dataset.open`."""
        assert isinstance(params, CsvPairsParams)
        faults = Faults(params.on_error, listing.KINDS, place.findings)
        reader = _Reader(listing.file_of(place, params.file, "csv"), params, faults)
        return listing.bundle(reader.listing(), params, image_size, place, faults, FORMAT)


@dataclass(frozen=True)
class _Columns:
    """Places of columns in the rows of one file."""

    image: int
    captions: Sequence[int]
    label: int | None
    split: int | None


class _Reader:
    """Collects the rows of one or several files that name an image and have a caption."""

    def __init__(self, file: Path, params: CsvPairsParams, faults: Faults) -> None:
        self._file = file
        self._params = params
        self._faults = faults
        self._captions = [params.caption_column] if isinstance(params.caption_column, str) else list(params.caption_column)
        self._paths, self._texts, self._labels = TextsBuilder(), TextsBuilder(), TextsBuilder()
        self._lines, self._text_row, self._splits, self._file_of = array("q"), array("q"), array("b"), array("b")

    def listing(self) -> listing.Listing:
        given = {option: name for option in _SPLIT_FILES if (name := getattr(self._params, option))}
        if given and self._params.split_column:
            raise UserError(f"--set data.split_column and data.{next(iter(given))} exclude each other: give one")
        files = [self._file, *(self._file.parent / name for name in given.values())]
        codes = [splits.TRAIN, *(_SPLIT_FILES[option] for option in given)]
        for number, (file, split) in enumerate(zip(files, codes, strict=True)):
            if not file.is_file():
                raise UserError(f"{file} does not exist: name a file beside {self._file.name} with --set data.*_file=NAME")
            self._read(file, number, split)
        lines, file_of = (np.frombuffer(column, dtype=kind) for column, kind in ((self._lines, "i8"), (self._file_of, "i1")))

        def where(row: int) -> str:
            return f"line {lines[row]}" + (f" of {files[file_of[row]].name}" if file_of[row] else "")

        return listing.Listing(
            self._file,
            self._file.parent / self._params.images,
            self._paths.texts(),
            self._texts.texts(),
            np.frombuffer(self._text_row, dtype=np.int64),
            where,
            Labels.of_texts(list(self._labels.texts())) if self._params.label_column else None,
            np.frombuffer(self._splits, dtype=np.int8) if given or self._params.split_column else None,
        )

    def _read(self, file: Path, number: int, split: int) -> None:
        params, faults = self._params, self._faults
        header, table = delimited.read(file, params.separator, params.encoding, (params.image_column, *self._captions))
        columns = self._find(file, header)
        inside = os.path.relpath(file.parent, self._file.parent) if number else "."
        for line, cells in table:
            if cells is None:
                hint = 'write "" for a quote in a quoted field, and close every quoted field'
                faults.note("malformed", f"{file}, line {line} has an unbalanced quote: {hint}")
                continue
            if len(cells) != len(header.columns):
                problem = f"{file}, line {line} has {len(cells)} fields where the header has {len(header.columns)}"
                faults.note("malformed", f"{problem}: {_hint(header, len(cells))}")
                continue
            image, captions = cells[columns.image].strip(), [text for at in columns.captions if (text := cells[at].strip())]
            if not image or "\0" in image:
                faults.note("malformed", f"{file}, line {line} has no image path: add one")
            elif not captions:
                faults.note("captionless", f"{file}, line {line} has an empty caption: add one")
            elif (own := self._split(f"{file}, line {line}", cells, columns, split)) is not None:
                self._text_row.extend([len(self._lines)] * len(captions))
                self._lines.append(line)
                self._file_of.append(number)
                self._splits.append(own)
                self._paths.append(os.path.normpath(os.path.join(inside, image) if number else image))
                for caption in captions:
                    self._texts.append(caption)
                if columns.label is not None:
                    self._labels.append(cells[columns.label].strip())

    def _split(self, where: str, cells: Sequence[str], columns: _Columns, split: int) -> int | None:
        if columns.split is None:
            return split
        try:
            return splits.code(cells[columns.split])
        except LookupError as error:
            self._faults.note("malformed", f"{where}: the split {error}")
            return None

    def _find(self, file: Path, header: delimited.Header) -> _Columns:
        params = self._params
        return _Columns(
            _column(file, header, "image_column", params.image_column),
            [_column(file, header, "caption_column", name) for name in self._captions],
            _column(file, header, "label_column", params.label_column) if params.label_column else None,
            _column(file, header, "split_column", params.split_column) if params.split_column else None,
        )


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
