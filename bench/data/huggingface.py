"""Hugging Face data sets, from the hub or from a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs
from bench.api.plugin import Params as PluginParams
from bench.data import arrow_texts, duplicates
from bench.data.columns import Paths
from bench.data.decoding import PIXELS, decode
from bench.data.files import CachedImages, Faults, OnError, file_size, loadable
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError, did_you_mean
from bench.registry import register_dataset

FORMAT = f"hf 2, {PIXELS}"
_CAPTION = "caption"
_PATH_COLUMNS = ("image", "image_path", "file_name", "filepath")


class HuggingFaceParams(PluginParams):
    config: str = Field(default="", description="configuration, if the data set has several")
    split: str = Field(default="train", description="the split to use; it is divided into train, holdout and test")
    image_column: str = Field(default="", description="column of images or paths; needed if several columns qualify")
    caption_column: str = Field(default="", description="column of strings or lists of strings; needed if several qualify")
    caption_seed: int = Field(default=0, ge=0, description="seed for choosing the caption of a row with a list of captions")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip drops rows without a caption or a readable image")


@register_dataset("hf")
class HuggingFace(Dataset):
    """Any Hugging Face data set with a column of images and one of captions: hf:NAME on the hub, or hf:FOLDER.

    A folder is written by save_to_disk, or contains parquet, arrow, JSON or image files. No code of a data set is run. A row is
    a pair; of a list of captions a random one that is not empty is used. All rows of an image, including images with the same
    bytes, are in one split. The vocabulary is ImageNet's; an image shows the classes that any of its captions mentions.
    Duplicate rows are dropped.
    """

    Params = HuggingFaceParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open the data set at `place.root`, a folder or a name on the hub; see `Dataset.open`."""
        assert isinstance(params, HuggingFaceParams)
        if place.root is None:
            raise UserError("the data set hf needs a name: --data hf:NAME of the hub, or hf:FOLDER")
        faults = Faults(params.on_error, ("missing", "unreadable", "duplicate", "captionless"), place.findings)
        rows = _Rows(place.root, params)
        complete = rows.complete(faults)
        settings = params.model_dump(include={"holdout_share", "on_error", "caption_seed"})
        content = [
            rows.texts.digest().hex(),
            *(duplicates.digests([column.tobytes()]).tolist() for column in (rows.text_row, rows.sizes[complete])),
        ]
        identity = [FORMAT, settings, image_size, *content]
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        image_of = rows.image_of(complete)
        usable = rows.distinct(complete, image_of, faults)
        parts = duplicates.split_by_image(image_of, usable, params.holdout_share, 0, f"{rows.name} has")
        pairs = {}
        for part, mine in parts.items():
            if faults.skip:
                cached = place.cache / f"readable-{fingerprint}-{part}.npy" if place.cache else None
                reads = loadable(RowImages(rows, mine, 32), cached)
                faults.note("unreadable", "", int((~reads).sum()))
                mine = mine[reads]
            if not len(mine):
                raise UserError(f"{rows.name} has no readable images for the part '{part}': give more images")
            pairs[part] = _pairs(rows, mine, image_of, image_size)
        everything = (pairs["train"], pairs["holdout"], pairs["test"])
        reason = "a data set of captions has no labels"
        facts = {**duplicates.sharing_facts(image_of[usable]), **faults.facts}
        return DatasetBundle(fingerprint, image_size, imagenet(), *everything, tasks=(), task_reason=reason, facts=facts)


class _Rows:
    """The two columns of a split: images, as Arrow structs of bytes or a path, and captions.

    Attributes
    ----------
    sizes : int64 (n,)
        Size of each image in bytes; -1 if there is none.
    texts : Texts
        All m captions.
    text_row : int64 (m,)
        The row of each caption.
    caption_at : int64 (n,)
        The index in `texts` of each row's caption; -1 if it has none.
    """

    def __init__(self, root: Path, params: HuggingFaceParams) -> None:
        table = _split(str(root), _loaded(root, params.config), params.split)
        import pyarrow.compute as pc

        self.name = f"{root}, split {params.split}"
        self.split = params.split
        image, caption = _columns(self.name, table, params)
        self._folder = root if root.is_dir() else None
        columns = _arrow(self.name, table, image, caption)
        self._bytes, self._paths = (pc.struct_field(columns[image], field) for field in ("bytes", "path"))
        self.texts, self.text_row = arrow_texts.of_column(columns[caption])
        self.caption_at = arrow_texts.one_each(self.text_row, len(columns), params.caption_seed)
        self.sizes = np.array(pc.fill_null(pc.cast(pc.binary_length(self._bytes), "int64"), -1).to_numpy())
        for row in np.flatnonzero(self.sizes < 0).tolist():
            self.sizes[row] = file_size(self._path(row)) if self._paths[row].is_valid else -1

    def complete(self, faults: Faults) -> NDArray[np.int64]:
        """The rows with an image and a caption: int64."""
        missing, empty = self.sizes < 0, self.caption_at < 0
        for kind, bad, hint in (("missing", missing, "image"), ("captionless", empty & ~missing, "caption")):
            if bad.any():
                problem = f"{self.name} has {int(bad.sum())} rows without {hint}, the first is row {int(bad.argmax())}"
                faults.note(kind, f"{problem}; complete them", int(bad.sum()))
        return np.flatnonzero(~missing & ~empty)

    def image_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each of all rows, the first of `rows` with the same image: int64 (n,); undefined for other rows."""
        firsts = np.arange(len(self.sizes))
        listed = rows[~np.asarray(self._bytes.is_valid())[rows]]
        paths = duplicates.digests(os.fsencode(self._path(row)) for row in listed.tolist())
        firsts[listed] = listed[duplicates.first_occurrence(paths)]
        once = np.zeros(len(firsts), dtype=np.int64)
        own = rows[firsts[rows] == rows]
        once[own] = self.sizes[own]
        return duplicates.first_image(once, self._read)[firsts]

    def distinct(self, rows: NDArray[np.int64], image_of: NDArray[np.int64], faults: Faults) -> NDArray[np.int64]:
        """Those of `rows` that do not repeat an earlier one."""
        again = duplicates.is_repeated(image_of[rows], self.texts.select(self.caption_at[rows]))
        if again.any():
            problem = f"{self.name} has {int(again.sum())} rows that repeat the image and caption of an earlier row"
            faults.note("duplicate", f"{problem}, the first is row {rows[again][0]}; remove them", int(again.sum()))
        return rows[~again]

    def image(self, row: int, side: int) -> NDArray[np.uint8]:
        embedded = self._bytes[row]
        if embedded.is_valid:
            return decode(f"of {self.name}, row {row}", side, embedded.as_py())
        return decode(self._path(row), side)

    def _read(self, row: int, start: int, count: int) -> bytes:
        embedded = self._bytes[row]
        if embedded.is_valid:
            return memoryview(embedded.as_buffer())[start : start + count].tobytes()
        return duplicates.read_bytes(self._path(row), start, count)

    def _path(self, row: int) -> str:
        path = os.fsdecode(self._paths[row].as_buffer().to_pybytes())
        return os.path.join(self._folder, path) if self._folder else path


class RowImages(CachedImages):
    """The images of `rows`, int64 (n,); see `CachedImages`."""

    def __init__(self, source: _Rows, rows: NDArray[np.int64], side: int) -> None:
        super().__init__(len(rows), side)
        self._source = source
        self._rows = rows

    def _image(self, index: int) -> NDArray[np.uint8]:
        return self._source.image(int(self._rows[index]), self._side)


def _loaded(root: Path, config: str) -> Any:
    """Load a data set: one split, or a mapping of splits."""
    try:
        import datasets
    except ImportError as error:
        hint = "install it with pip install 'clip-poison-bench[hf]'"
        raise UserError(f"--data hf:{root} needs the library datasets ({error}): {hint}") from error
    if not root.exists() and (root.is_absolute() or len(root.parts) > 2 or root.parts[:1] == ("..",)):
        raise UserError(f"--data hf:{root}: is neither a folder nor a name on the hub")
    try:
        if any((root / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(str(root))
        return datasets.load_dataset(str(root), config or None)
    except Exception as error:  # the library and its dependencies raise many kinds of errors
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        what = str(reason).strip().partition("\n")[0] or type(reason).__name__
        hint = "check the folder" if root.exists() else "check the name and the connection, or give a folder that contains it"
        raise UserError(f"--data hf:{root} cannot be opened ({what}): {hint}") from error


def _split(name: str, loaded: Any, split: str) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise UserError(f"{name} has no split '{split}', set data.split to one it has; {did_you_mean(split, loaded)}")
    return loaded[split]


def _columns(name: str, table: Any, params: HuggingFaceParams) -> tuple[str, str]:
    """The names of the image column and of the caption column."""
    from datasets import Image, Value

    def holds(feature: Any, *kinds: str) -> bool:
        return isinstance(feature, Value) and feature.dtype in kinds

    def is_text(feature: Any) -> bool:
        return any(holds(each, "string", "large_string", "null") for each in (feature, getattr(feature, "feature", None)))

    features = table.features
    images = [column for column, feature in features.items() if isinstance(feature, Image)]
    images = images or [
        column
        for column, feature in features.items()
        if holds(feature, "binary", "large_binary") or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))
    ]
    images = images or [column for column in _PATH_COLUMNS if holds(features.get(column), "string", "large_string")]
    image = _column(name, "image_column", params.image_column, images, features)
    texts = [column for column, feature in features.items() if column != image and is_text(feature)]
    caption = _column(name, "caption_column", params.caption_column, [_CAPTION] if _CAPTION in texts else texts, features)
    if caption not in texts:
        problem = f"the column '{caption}' of {name} does not contain strings but {features[caption]}"
        raise UserError(f"{problem}: name another with data.caption_column; {did_you_mean(caption, texts)}")
    return image, caption


def _column(name: str, option: str, wanted: str, candidates: list[str], known: Iterable[str]) -> str:
    """The column named by the option, or the only candidate."""
    if wanted and wanted not in known:
        raise UserError(f"{name} has no such column '{wanted}', set data.{option}; {did_you_mean(wanted, known)}")
    if not wanted and len(candidates) != 1:
        found = f"{len(candidates)} possible columns ({', '.join(candidates)})" if candidates else "no suitable column"
        raise UserError(f"{name} has {found}: name the column with --set data.{option}=NAME, one of {', '.join(known)}")
    return wanted or candidates[0]


def _arrow(name: str, table: Any, image: str, caption: str) -> Any:
    """Both columns as Arrow arrays, images as structs of bytes and path."""
    from datasets import Image

    try:
        return table.select_columns([image, caption]).cast_column(image, Image(decode=False)).with_format("arrow")[:]
    except Exception as error:  # the library and Arrow raise many kinds of errors
        problem = f"the column '{image}' of {name} does not contain images or paths but {table.features[image]}"
        raise UserError(f"{problem}: name another with data.image_column") from error


def _pairs(rows: _Rows, mine: NDArray[np.int64], image_of: NDArray[np.int64], image_size: int) -> Pairs:
    return Pairs(
        uids=Paths("hf", (rows.split,), np.zeros(len(mine), dtype=np.int32), np.char.zfill(mine.astype("S9"), 9)),
        captions=rows.texts.select(rows.caption_at[mine]),
        images=RowImages(rows, mine, image_size),
        members=duplicates.ImageMembers(image_of[mine], rows.texts, image_of[rows.text_row], MentionIndex(imagenet().names)),
    )
