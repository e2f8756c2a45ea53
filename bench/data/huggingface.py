"""Hugging Face data sets, from the hub or from a folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs, Task
from bench.api.plugin import Params as PluginParams
from bench.data import arrow_texts, classes, duplicates, hf_tables, splits
from bench.data.columns import Paths
from bench.data.decoding import PIXELS, decode
from bench.data.files import CachedImages, Faults, OnError, file_size, loadable
from bench.data.labels import LabelledMembers, class_task
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"hf 2, {PIXELS}"
_KINDS = ("missing", "unreadable", "duplicate", "captionless")
_SPLITS = {"val_split": splits.VAL, "test_split": splits.TEST}


class HuggingFaceParams(classes.ClassParams):
    later = classes.ClassParams.later | {"caption_per", "label_column", "split_column", *_SPLITS}
    config: str = Field(default="", description="configuration, if the data set has several")
    split: str = Field(
        default="train", description="the split to use; divided into train, holdout and test unless others are named"
    )
    val_split: str = Field(default="", description="the published val split, the adversary's; `split` is train then")
    test_split: str = Field(default="", description="the published test split")
    split_column: str = Field(default="", description="column of published splits: train, val, test")
    image_column: str = Field(default="", description="column of images or paths; needed if several columns qualify")
    caption_column: str | tuple[str, ...] = Field(
        default="", description="column, or several, of strings or lists of strings; needed if several qualify"
    )
    label_column: str = Field(default="", description="column of labels, which give a downstream task; may be empty in a row")
    caption_seed: int = Field(default=0, ge=0, description="seed for choosing one of several captions of a row, or of an image")
    caption_per: Literal["row", "image"] = Field(default="row", description="image: one pair an image, whatever its rows")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip drops rows without a caption or a readable image")


@register_dataset("hf")
class HuggingFace(Dataset):
    """Any Hugging Face data set with a column of images and one of captions: hf:NAME on the hub, or hf:FOLDER.

    A folder is what save_to_disk wrote, or one of parquet, arrow, JSON or image files. No code of a data set is run. A row is a
    pair; of several captions it takes one that is not empty, at random. Rows whose images have the same bytes stay on one side
    of the split, and are members of the classes that their label names or any of their captions mentions. Equal rows are left
    out as duplicates; in parquet of img2dataset so are rows that were not downloaded, counted apart.
    """

    Params = HuggingFaceParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open the data set at `place.root`, a folder or a name on the hub; see `Dataset.open`."""
        assert isinstance(params, HuggingFaceParams)
        if place.root is None:
            raise UserError("the data set hf needs a name: --data hf:NAME of the hub, or hf:FOLDER")
        faults = Faults(params.on_error, _KINDS, place.findings)
        rows = _Rows(place.root, params)
        there = rows.complete(faults)
        folder = place.root if place.root.is_dir() else Path()
        vocabulary = classes.vocabulary(params.classes, folder, rows.labels.names if rows.labels else None)
        fingerprint = rows.fingerprint(there, params, image_size, classes.identity(vocabulary))
        image_of = rows.image_of(there)
        usable = rows.distinct(there, image_of, faults)
        labels = None
        if rows.labels:
            labels, usable = rows.labels.of_images(image_of, usable, f"{rows.name} has", faults)
        if params.caption_per == "image":
            usable = splits.one_row_an_image(image_of, usable, params.caption_seed)
        parts, facts = rows.parts(image_of, usable, params)
        own, index = labels.as_classes(vocabulary) if labels else None, MentionIndex.of(vocabulary)
        said = duplicates.ImageCaptions(rows.texts, image_of[rows.text_row])
        pairs = {}
        for part, mine in parts.items():
            if faults.skip:
                note = place.cache / f"readable-{fingerprint}-{part}.npy" if place.cache else None
                reads = loadable(RowImages(rows, mine, 32), note)
                faults.note("unreadable", "", int((~reads).sum()))
                mine = mine[reads]
            if not len(mine):
                raise UserError(f"{rows.name} has no readable images for the part '{part}': give more images")
            pairs[part] = _pairs(rows, mine, image_of, image_size, said, index, own), mine
        task: Task | str = "a data set of captions has no labels"
        if labels:
            task = class_task(labels, vocabulary, pairs, image_of)
        return DatasetBundle(
            fingerprint,
            image_size,
            vocabulary,
            pairs["train"][0],
            pairs["holdout"][0],
            pairs["test"][0],
            tasks=() if isinstance(task, str) else (task,),
            task_reason=task if isinstance(task, str) else "",
            facts={**duplicates.sharing_facts(image_of[usable]), **facts, **rows.facts, **faults.facts},
        )


class _Rows:
    """The columns of a split, or of several: images as Arrow structs of bytes or a path, and their captions.

    sizes: int64 (n,), bytes of each image, -1 where there is none; texts: all captions; text_row: int64 (m,), the row of each;
    caption_at: int64 (n,), the place in `texts` of each row's caption, -1 where it has none. splits, split_at: the splits, and
    the place of each row's, int32 (n,). published: int8 (n,), where splits are; labels: where their column is named.
    """

    def __init__(self, root: Path, params: HuggingFaceParams) -> None:
        table = self._table(root, params)
        import pyarrow.compute as pc

        image, captions = hf_tables.columns(self.name, table, params.image_column, params.caption_column)
        self._folder = root if root.is_dir() else None
        columns = hf_tables.arrow(self.name, table, image, captions)
        self._bytes, self._paths = (pc.struct_field(columns[image], field) for field in ("bytes", "path"))
        self.texts, self.text_row = arrow_texts.of_columns([columns[caption] for caption in captions])
        self.labels = hf_tables.labels(self.name, table, params.label_column) if params.label_column else None
        self._failed = hf_tables.not_downloaded(table, image)
        self.facts: dict[str, str | int] = {"not_downloaded": int(self._failed.sum())} if self._failed.any() else {}
        self.caption_at = arrow_texts.one_each(self.text_row, len(columns), params.caption_seed)
        self.sizes = np.array(pc.fill_null(pc.cast(pc.binary_length(self._bytes), "int64"), -1).to_numpy())
        for row in np.flatnonzero(self.sizes < 0).tolist():
            self.sizes[row] = file_size(self._path(row)) if self._paths[row].is_valid else -1

    def _table(self, root: Path, params: HuggingFaceParams) -> Any:
        loaded = hf_tables.load(root, params.config)
        named = {option: split for option in _SPLITS if (split := getattr(params, option))}
        if named and params.split_column:
            raise UserError(f"--set data.split_column and data.{next(iter(named))} exclude each other: give one")
        self.splits = (params.split, *named.values())
        self.name = f"{root}, split {' and '.join(self.splits)}"
        tables = [hf_tables.split_of(str(root), loaded, split) for split in self.splits]
        self.split_at = np.repeat(np.arange(len(tables), dtype=np.int32), [len(each) for each in tables])
        codes = np.array([splits.TRAIN, *(_SPLITS[option] for option in named)], dtype=np.int8)
        table = hf_tables.joined(self.name, tables)
        self.published = codes[self.split_at] if named else None
        if params.split_column:
            self.published = hf_tables.published(self.name, table, params.split_column)
        return table

    def fingerprint(self, there: NDArray[np.int64], params: HuggingFaceParams, image_size: int, spoken: list[object]) -> str:
        """Of captions and sizes of images, and of all else that changes a pair."""
        settings = params.model_dump(include={"holdout_share", "on_error", "caption_seed"})
        more: dict[str, Any] = params.model_dump(include={"caption_per"})
        if self.labels:
            more["labels"] = [self.labels.names, duplicates.digests([self.labels.of.tobytes()]).tolist()]
        if self.published is not None:
            more["splits"] = duplicates.digests([self.published.tobytes()]).tolist()
        if spoken:
            more["classes"] = spoken
        identity = [
            FORMAT,
            settings,
            image_size,
            self.texts.digest().hex(),
            *(duplicates.digests([column.tobytes()]).tolist() for column in (self.text_row, self.sizes[there])),
            *([more] if more else []),
        ]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def parts(
        self, image_of: NDArray[np.int64], usable: NDArray[np.int64], params: HuggingFaceParams
    ) -> tuple[dict[str, NDArray[np.int64]], dict[str, str | int]]:
        """The rows in train, holdout and test, and what was left out."""
        if self.published is None:
            return duplicates.split_by_image(image_of, usable, params.holdout_share, 0, f"{self.name} has"), {}
        return splits.published(image_of, usable, self.published, f"{self.name} has")

    def complete(self, faults: Faults) -> NDArray[np.int64]:
        """The rows that have an image and a caption, int64 (n,)."""
        missing, empty = (self.sizes < 0) & ~self._failed, (self.caption_at < 0) & ~self._failed
        for kind, bad, hint in (("missing", missing, "image"), ("captionless", empty & ~missing, "caption")):
            if bad.any():
                problem = f"{self.name} has {int(bad.sum())} rows without {hint}, the first is row {int(bad.argmax())}"
                faults.note(kind, f"{problem}; complete them", int(bad.sum()))
        return np.flatnonzero(~missing & ~empty & ~self._failed)

    def image_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """For those of all rows that are in `rows` the first that has the same image: int64 (n,)."""
        firsts = np.arange(len(self.sizes))
        listed = rows[~np.asarray(self._bytes.is_valid())[rows]]
        paths = duplicates.digests(os.fsencode(self._path(row)) for row in listed.tolist())
        firsts[listed] = listed[duplicates.first_occurrence(paths)]
        once = np.zeros(len(firsts), dtype=np.int64)
        own = rows[firsts[rows] == rows]
        once[own] = self.sizes[own]
        return duplicates.first_image(once, self._read)[firsts]

    def distinct(self, rows: NDArray[np.int64], image_of: NDArray[np.int64], faults: Faults) -> NDArray[np.int64]:
        """Those of `rows` that equal none before."""
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
    """The images of some rows, int64 (n,); see `CachedImages`."""

    def __init__(self, source: _Rows, rows: NDArray[np.int64], side: int) -> None:
        super().__init__(len(rows), side)
        self._source = source
        self._rows = rows

    def _image(self, index: int) -> NDArray[np.uint8]:
        return self._source.image(int(self._rows[index]), self._side)


def _pairs(
    rows: _Rows,
    mine: NDArray[np.int64],
    image_of: NDArray[np.int64],
    image_size: int,
    said: duplicates.ImageCaptions,
    index: MentionIndex,
    own: NDArray[np.int64] | None,
) -> Pairs:
    mentioned = duplicates.ImageMembers(image_of[mine], said, index)
    begins = np.searchsorted(rows.split_at, np.arange(len(rows.splits)))
    within = mine - begins[rows.split_at[mine]]
    return Pairs(
        uids=Paths("hf", rows.splits, rows.split_at[mine], np.char.zfill(within.astype("S9"), 9)),
        captions=rows.texts.select(rows.caption_at[mine]),
        images=RowImages(rows, mine, image_size),
        members=mentioned if own is None else LabelledMembers(own[mine], mentioned),
    )
