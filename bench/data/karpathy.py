"""Karpathy's JSON files of captions and splits: dataset_coco.json, dataset_flickr30k.json, dataset_flickr8k.json."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle
from bench.api.plugin import Params as PluginParams
from bench.data import json_rows, listing, splits
from bench.data.columns import TextsBuilder
from bench.data.decoding import PIXELS
from bench.data.files import Faults
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"karpathy 1, {PIXELS}"


class KarpathyParams(listing.ListParams):
    file: str = Field(default="dataset_coco.json", description="the JSON within the data root, unless that is a file itself")


@register_dataset("karpathy")
class Karpathy(Dataset):
    """Images with several sentences each and published splits, in the JSON of Karpathy & Fei-Fei 2015.

    An image is one pair, with one of its sentences, drawn by seed. train: the splits train and restval; holdout: val; test:
    test. An image is a member of the classes that any of its sentences mentions.
    """

    citations = ("karpathy2015alignments",)
    Params = KarpathyParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`file`, or ROOT where that is a file; images lie in `images`/FILEPATH/FILENAME; see `Dataset.open`."""
        assert isinstance(params, KarpathyParams)
        faults = Faults(params.on_error, listing.KINDS, place.findings)
        file = listing.file_of(place, params.file, "karpathy")
        return listing.bundle(_listing(file, params, faults), params, image_size, place, faults, FORMAT)


def _listing(file: Path, params: KarpathyParams, faults: Faults) -> listing.Listing:
    paths, texts = TextsBuilder(), TextsBuilder()
    text_row, split_of, numbers = array("q"), array("b"), array("q")
    for number, entry in enumerate(_entries(file)):
        where = f"{file}: images[{number}]"
        try:
            path, sentences, split = _image(entry)
        except LookupError as error:
            faults.note("malformed", f"{where}: {error}; {json_rows.REMEDY}")
            continue
        if not sentences:
            faults.note("captionless", f"{where} has no sentence; add one")
            continue
        text_row.extend([len(numbers)] * len(sentences))
        numbers.append(number)
        split_of.append(split)
        paths.append(path)
        for sentence in sentences:
            texts.append(sentence)
    places = np.frombuffer(numbers, dtype=np.int64)
    return listing.Listing(
        file,
        file.parent / params.images,
        paths.texts(),
        texts.texts(),
        np.frombuffer(text_row, dtype=np.int64),
        lambda row: f"images[{places[row]}]",
        split_of=np.frombuffer(split_of, dtype=np.int8),
    )


def _entries(file: Path) -> Iterator[Any]:
    try:
        with file.open("rb") as stream:
            yield from json_rows.entries(stream, "images.item")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a file that you may read") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not whole JSON: download it again") from error


def _image(entry: Any) -> tuple[str, list[str], int]:
    """The path, sentences that are not empty, and split of an image. Raises LookupError naming what is not as it should be."""
    if not isinstance(entry, dict):
        raise LookupError("is not an object")
    name, split, sentences = json_rows.text(entry.get("filename")), json_rows.text(entry.get("split")), entry.get("sentences")
    if not name or "\0" in name:
        raise LookupError("the field 'filename' names no image")
    if split is None or not isinstance(sentences, list):
        raise LookupError(f"the field '{'split' if split is None else 'sentences'}' is missing or of another kind")
    raw = [json_rows.text(each.get("raw")) if isinstance(each, dict) else None for each in sentences]
    if None in raw:
        raise LookupError(f"sentences[{raw.index(None)}] has no text 'raw'")
    folder = json_rows.text(entry.get("filepath")) or ""
    return (
        os.path.normpath(os.path.join(folder, name)),
        [text.strip() for text in raw if text and text.strip()],
        splits.code(split),
    )
