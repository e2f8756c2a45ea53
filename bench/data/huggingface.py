"""Data sets of Hugging Face's library `datasets`, from its hub or from a folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs
from bench.api.plugin import Params as PluginParams
from bench.data.columns import Paths, Texts
from bench.data.decoding import PIXELS, decode
from bench.data.files import Faults, KeptImages, OnError, loadable
from bench.data.mentions import LazyMembers, MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError, did_you_mean
from bench.registry import register_dataset

FORMAT = f"hf 1, {PIXELS}"
_CAPTION = "caption"
_PATH_COLUMNS = ("image", "image_path", "file_name", "filepath")


class HuggingFaceParams(PluginParams):
    config: str = Field(default="", description="which configuration, where the hub has several")
    split: str = Field(default="train", description="which split; it is split further into train, holdout and test")
    image_column: str = Field(default="", description="images, or their paths; found where there is one such column")
    caption_column: str = Field(default="", description="texts, or lists whose first is taken; found as the image column is")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip leaves out rows without a caption or a readable image")


@register_dataset("hf")
class HuggingFace(Dataset):
    """Any data set of Hugging Face with a column of images and one of captions: hf:NAME on the hub, or hf:FOLDER.

    A folder is what save_to_disk wrote, or one of parquet, arrow, JSON or image files. No code of a data set is run. Each row
    is an image of its own; the classes are ImageNet's, by mention in the caption.
    """

    Params = HuggingFaceParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open the data set at `place.root`, a folder or a name on the hub; see `Dataset.open`."""
        assert isinstance(params, HuggingFaceParams)
        if place.root is None:
            raise UserError("the data set hf needs a name: --data hf:NAME of the hub, or hf:FOLDER")
        faults = Faults(params.on_error, ("missing", "unreadable", "captionless"), place.findings)
        rows = _Rows(place.root, params)
        fine = rows.usable(faults)
        settings = params.model_dump(include={"holdout_share", "on_error"})
        identity = [FORMAT, settings, image_size, rows.captions.select(fine).digest().hex(), rows.sizes[fine].tolist()]
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        kept = max(2, round(params.holdout_share * len(fine)))
        if len(fine) <= kept:
            raise UserError(f"{rows.name} has {len(fine)} usable rows, too few to split: give more, or a lower holdout_share")
        rank = np.random.default_rng(0).permutation(len(fine))
        ends = {"train": (kept, len(fine)), "holdout": (0, kept // 2), "test": (kept // 2, kept)}
        pairs = {}
        for part, (start, end) in ends.items():
            mine = fine[(start <= rank) & (rank < end)]
            if faults.skip:
                note = place.cache / f"readable-{fingerprint}-{part}.npy" if place.cache else None
                reads = loadable(RowImages(rows, mine, 32), note)
                faults.note("unreadable", "", int((~reads).sum()))
                mine = mine[reads]
            if not len(mine):
                raise UserError(f"{rows.name} has no readable images for the part '{part}': give more images")
            pairs[part] = _pairs(rows, mine, image_size)
        everything = (pairs["train"], pairs["holdout"], pairs["test"])
        reason = "a data set of captions has no labels"
        return DatasetBundle(fingerprint, image_size, imagenet(), *everything, tasks=(), task_reason=reason, facts=faults.facts)


class _Rows:
    """The two columns of a split: captions as `Texts`, images as Arrow structs of bytes or a path.

    sizes: int64 (n,), bytes of each image, -1 where there is none.
    """

    def __init__(self, root: Path, params: HuggingFaceParams) -> None:
        table = _split(str(root), _loaded(root, params.config), params.split)
        from datasets import Image

        self.name = f"{root}, split {params.split}"
        self.split = params.split
        image, caption = _columns(self.name, table, params)
        self._folder = root if root.is_dir() else None
        columns = table.select_columns([image, caption]).cast_column(image, Image(decode=False)).with_format("arrow")[:]
        self._images = columns[image]
        self.captions = _texts(columns[caption])
        self.sizes = self._sizes()

    def usable(self, faults: Faults) -> NDArray[np.int64]:
        """The rows that have an image and a caption, int64 (n,)."""
        missing, empty = self.sizes < 0, self.captions.lengths == 0
        for kind, bad, hint in (("missing", missing, "image"), ("captionless", empty & ~missing, "caption")):
            if bad.any():
                problem = f"{self.name} has {int(bad.sum())} rows without {hint}, the first is row {int(bad.argmax())}"
                faults.note(kind, f"{problem}; complete them", int(bad.sum()))
        return np.flatnonzero(~missing & ~empty)

    def image(self, row: int, side: int) -> NDArray[np.uint8]:
        found = self._images[row].as_py()
        if found["bytes"] is not None:
            return decode(f"of {self.name}, row {row}", side, found["bytes"])
        return decode(self._path(found["path"]), side)

    def _path(self, path: str) -> str:
        return os.path.join(self._folder, path) if self._folder else path

    def _sizes(self) -> NDArray[np.int64]:
        import pyarrow.compute as pc

        embedded = pc.struct_field(self._images, "bytes")
        sizes = np.array(pc.fill_null(pc.cast(pc.binary_length(embedded), "int64"), -1).to_numpy())
        for row in np.flatnonzero(sizes < 0):
            path = (self._images[int(row)].as_py() or {}).get("path")
            if path and os.path.isfile(self._path(path)):
                sizes[row] = os.path.getsize(self._path(path))
        return sizes


class RowImages(KeptImages):
    """The images of some rows, int64 (n,); see `KeptImages`."""

    def __init__(self, source: _Rows, rows: NDArray[np.int64], side: int) -> None:
        super().__init__(len(rows), side)
        self._source = source
        self._rows = rows

    def _image(self, index: int) -> NDArray[np.uint8]:
        return self._source.image(int(self._rows[index]), self._side)


def _loaded(root: Path, config: str) -> Any:
    """A split, or splits by name."""
    try:
        import datasets
    except ImportError as error:
        hint = "install it with pip install 'clip-poison-bench[hf]'"
        raise UserError(f"--data hf:{root} needs the library datasets ({error}): {hint}") from error
    if not root.exists() and (root.is_absolute() or len(root.parts) > 2 or root.parts[:1] == ("..",)):
        raise UserError(f"--data hf:{root}: there is no such folder, and it is no name on the hub")
    try:
        if any((root / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(str(root))
        return datasets.load_dataset(str(root), config or None)
    except Exception as error:  # the library and what it rests on raise many kinds
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        hint = "check the folder" if root.exists() else "check the name and the connection, or give a folder that holds it"
        raise UserError(f"--data hf:{root} cannot be opened ({what}): {hint}") from error


def _split(name: str, loaded: Any, split: str) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise UserError(f"{name} has no split '{split}', set data.split to one it has; {did_you_mean(split, loaded)}")
    return loaded[split]


def _columns(name: str, table: Any, params: HuggingFaceParams) -> tuple[str, str]:
    """The names of the column of images and of that of captions."""
    from datasets import Image, Value

    def is_text(feature: Any) -> bool:
        return isinstance(feature, Value) and feature.dtype in ("string", "large_string")

    features = table.features
    images = [column for column, feature in features.items() if isinstance(feature, Image)]
    images = images or [column for column in _PATH_COLUMNS if is_text(features.get(column))]
    image = _column(name, "image_column", params.image_column, images, list(features))
    texts = [
        column
        for column, feature in features.items()
        if column != image and (is_text(feature) or is_text(getattr(feature, "feature", None)))
    ]
    return image, _column(name, "caption_column", params.caption_column, [_CAPTION] if _CAPTION in texts else texts, texts)


def _column(name: str, option: str, wanted: str, candidates: list[str], known: list[str]) -> str:
    """The wanted column, or the only candidate."""
    if wanted and wanted not in known:
        raise UserError(f"{name} has no such column '{wanted}', set data.{option}; {did_you_mean(wanted, known)}")
    if not wanted and len(candidates) != 1:
        found = f"{len(candidates)} that may be it ({', '.join(candidates)})" if candidates else "none that may be it"
        raise UserError(f"{name} has {found}: name the column with --set data.{option}=NAME, one of {', '.join(known)}")
    return wanted or candidates[0]


def _texts(column: Any) -> Texts:
    """Arrow strings, or lists whose first is taken; stripped, and empty where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_element(pc.if_else(pc.greater(pc.list_value_length(column), 0), column, None), 0)
    whole = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(column, pa.large_string()), ""))
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    _, offsets, content = whole.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return Texts(np.frombuffer(content or b"", dtype=np.uint8), places[:-1], places[1:])


def _pairs(rows: _Rows, mine: NDArray[np.int64], image_size: int) -> Pairs:
    captions = rows.captions.select(mine)
    names = np.char.zfill(mine.astype("S9"), 9)
    return Pairs(
        uids=Paths("hf", (rows.split,), np.zeros(len(mine), dtype=np.int32), names),
        captions=captions,
        images=RowImages(rows, mine, image_size),
        members=LazyMembers(captions, MentionIndex(imagenet().names)),
    )
