"""Image-caption pairs listed in a CSV or TSV file, with open_clip's defaults for its columns."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs
from bench.api.plugin import Params as PluginParams
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, readable
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError, did_you_mean
from bench.registry import register_dataset

FORMAT = f"csv 1, {PIXELS}"


class CsvPairsParams(PluginParams):
    file: str = Field(default="train.csv", description="the file within the data root, unless that is a file itself")
    image_column: str = Field(default="filepath", description="image paths, absolute or relative to the file's folder")
    caption_column: str = Field(default="title", description="column of captions")
    separator: Literal["auto", ",", "tab"] = Field(default="auto", description="auto: by extension, then header")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip leaves out rows and images that are damaged or missing")


@dataclass(frozen=True)
class _Row:
    line: int
    image: str
    caption: str


@register_dataset("csv")
class CsvPairs(Dataset):
    """Pairs of a CSV or TSV file with a header: one row an image path and its caption, no labels.

    An image may have several rows: they stay on one side of the split, and its classes are the ImageNet classes that
    any of their captions mentions.
    """

    Params = CsvPairsParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`file`, or ROOT where that is a file; see `Dataset.open`."""
        assert isinstance(params, CsvPairsParams)
        file = _file(place, params.file)
        faults = Faults(params.on_error, ("missing", "unreadable", "captionless", "malformed"), place.findings)
        content = _content(file)
        rows, separator = _rows(file, content, params, faults)
        sizes = _sizes(file, rows, faults)
        identity = {**params.model_dump(exclude={"file"}), "separator": separator, "image_size": image_size}
        listing = [FORMAT, identity, hashlib.sha256(content.encode()).hexdigest(), sorted(sizes.items())]
        fingerprint = hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()
        sides = _split(file, list(sizes), params.holdout_share)
        images = list(sizes)
        if faults.skip:
            note = place.cache / f"readable-{fingerprint}.json" if place.cache else None
            fine = readable([_path(file, image) for image in images], note)
            faults.note("unreadable", "", fine.count(False))
            images = [image for image, reads in zip(images, fine, strict=True) if reads]
        usable = set(images)
        pairs = _pairs(file, [row for row in rows if row.image in usable], sides, image_size)
        return DatasetBundle(
            fingerprint,
            image_size,
            imagenet(),
            pairs["train"],
            pairs["holdout"],
            pairs["test"],
            tasks=(),
            task_reason="a CSV of captions has no labels",
            facts={"file": file.name, **faults.facts},
        )


def _file(place: DataPlace, name: str) -> Path:
    if place.root is None:
        raise UserError("the data set csv needs --data-root: the CSV file, or the folder that holds it")
    file = place.root / name if place.root.is_dir() else place.root
    if not file.is_file():
        raise UserError(f"{file} does not exist: name the file with --data-root, or within it with --set data.file=NAME")
    return file


def _content(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line} is not UTF-8: save the file in that encoding") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a file that you may read") from error


def _rows(file: Path, content: str, params: CsvPairsParams, faults: Faults) -> tuple[list[_Row], str]:
    """The usable rows, and the separator."""
    first, _, _ = content.partition("\n")
    tabbed = file.suffix.lower() == ".tsv" or "\t" in first
    separator = ("tab" if tabbed else ",") if params.separator == "auto" else params.separator
    table = _cells(file, content, "\t" if separator == "tab" else ",")
    _, header = next(table, (0, []))
    image_at = _column(file, header, "image_column", params.image_column)
    caption_at = _column(file, header, "caption_column", params.caption_column)
    rows = []
    for line, cells in table:
        if len(cells) != len(header):
            problem = f"{file}, line {line} has {len(cells)} fields where the header has {len(header)}"
            faults.note("malformed", f"{problem}: quote the field that holds the separator, or complete the row")
        elif not cells[image_at].strip() or "\0" in cells[image_at]:
            faults.note("malformed", f"{file}, line {line} names no image: give its path")
        elif not cells[caption_at].strip():
            faults.note("captionless", f"{file}, line {line} has an empty caption: give one")
        else:
            rows.append(_Row(line, os.path.normpath(cells[image_at].strip()), cells[caption_at].strip()))
    return rows, separator


def _cells(file: Path, content: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line it starts at."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        hint = 'look for a quote that is never closed, and write quotes within a quoted field as ""'
        raise UserError(f"{file}, line {line} cannot be parsed ({error}): {hint}") from error


def _column(file: Path, header: Sequence[str], option: str, name: str) -> int:
    names = [cell.strip() for cell in header]
    if name not in names:
        raise UserError(f"{file} has no column '{name}', set data.{option} to one of its header; {did_you_mean(name, names)}")
    return names.index(name)


def _path(file: Path, image: str) -> str:
    return os.path.join(file.parent, image)


def _sizes(file: Path, rows: Sequence[_Row], faults: Faults) -> dict[str, int]:
    """Size in bytes of each image that exists, in order of first mention."""
    sizes: dict[str, int] = {}
    missing: dict[str, int] = {}
    for row in rows:
        if row.image in sizes or row.image in missing:
            continue
        path = _path(file, row.image)
        if os.path.isfile(path):
            sizes[row.image] = os.path.getsize(path)
        else:
            missing[row.image] = row.line
    if missing:
        image, line = next(iter(missing.items()))
        problem = f"{file} lists {len(missing)} images that do not exist, the first in line {line}: {_path(file, image)}"
        faults.note("missing", f"{problem}; restore them", len(missing))
    return sizes


def _split(file: Path, images: Sequence[str], share: float) -> dict[str, str]:
    """The part of each image: train, holdout or test."""
    kept = max(2, round(share * len(images)))
    if len(images) <= kept:
        raise UserError(f"{file} lists {len(images)} usable images, too few to split: give more, or a lower holdout_share")
    order = np.random.default_rng(0).permutation(len(images))
    ends = {"holdout": kept // 2, "test": kept, "train": len(images)}
    return {
        image: next(part for part, end in ends.items() if rank < end)
        for image, rank in zip(images, order.tolist(), strict=True)
    }


def _pairs(file: Path, rows: Sequence[_Row], sides: dict[str, str], image_size: int) -> dict[str, Pairs]:
    captions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        captions[row.image].append(row.caption)
    index = MentionIndex(imagenet().names)
    members = {image: index.members(*texts) for image, texts in captions.items()}
    pairs = {}
    for part in ("train", "holdout", "test"):
        mine = [row for row in rows if sides[row.image] == part]
        if not mine:
            raise UserError(f"{file} has no readable images for the part '{part}': give more images")
        pairs[part] = Pairs(
            uids=_uids(mine),
            captions=[row.caption for row in mine],
            images=ImageFiles([_path(file, row.image) for row in mine], image_size),
            members=[members[row.image] for row in mine],
        )
    return pairs


def _uids(rows: Sequence[_Row]) -> list[str]:
    """The image's path, with #2, #3 ... for its further rows."""
    seen: Counter[str] = Counter()
    uids = []
    for row in rows:
        seen[row.image] += 1
        uids.append(row.image if seen[row.image] == 1 else f"{row.image}#{seen[row.image]}")
    return uids
