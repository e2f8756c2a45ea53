"""Tables of Hugging Face's library `datasets`: which are opened, and which of their columns are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import splits
from bench.data.labels import Labels
from bench.errors import UserError, did_you_mean

_CAPTION = "caption"
_PATH_COLUMNS = ("image", "image_path", "file_name", "filepath")


def load(root: Path, config: str) -> Any:
    """A split, or splits by name."""
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


def split_of(name: str, loaded: Any, split: str) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise UserError(f"{name} has no split '{split}', set data.split to one it has; {did_you_mean(split, loaded)}")
    return loaded[split]


def columns(name: str, table: Any, image_column: str, caption_column: str | Sequence[str]) -> tuple[str, list[str]]:
    """The names of the column of images and of those of captions."""
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
    image = _column(name, "image_column", image_column, images, features)
    texts = [column for column, feature in features.items() if column != image and is_text(feature)]
    candidates = [_CAPTION] if _CAPTION in texts else texts
    wanted = [caption_column] if isinstance(caption_column, str) else caption_column
    captions = [_column(name, "caption_column", each, candidates, features) for each in wanted]
    for caption in captions:
        if caption not in texts:
            problem = f"the column '{caption}' of {name} does not contain strings but {features[caption]}"
            raise UserError(f"{problem}: name another with data.caption_column; {did_you_mean(caption, texts)}")
    return image, captions


def _column(name: str, option: str, wanted: str, candidates: list[str], known: Iterable[str]) -> str:
    """The wanted column, or the only candidate."""
    if wanted and wanted not in known:
        raise UserError(f"{name} has no such column '{wanted}', set data.{option}; {did_you_mean(wanted, known)}")
    if not wanted and len(candidates) != 1:
        found = f"{len(candidates)} possible columns ({', '.join(candidates)})" if candidates else "no suitable column"
        raise UserError(f"{name} has {found}: name the column with --set data.{option}=NAME, one of {', '.join(known)}")
    return wanted or candidates[0]


def arrow(name: str, table: Any, image: str, others: Sequence[str]) -> Any:
    """The columns as Arrow, that of images as structs of bytes and path."""
    from datasets import Image

    try:
        return table.select_columns([image, *others]).cast_column(image, Image(decode=False)).with_format("arrow")[:]
    except Exception as error:  # the library and Arrow raise many kinds of errors
        problem = f"the column '{image}' of {name} does not contain images or paths but {table.features[image]}"
        raise UserError(f"{problem}: name another with data.image_column") from error


def labels(name: str, table: Any, column: str) -> Labels:
    """The labels of a column: classes that the data set names, else its texts or whole numbers."""
    _column(name, "label_column", column, [], table.features)
    names = getattr(table.features[column], "names", None)
    values = table.with_format("arrow")[:][column].to_pylist()
    if names:
        return Labels(tuple(names), np.array([-1 if value is None else value for value in values], dtype=np.int64))
    if any(isinstance(value, list | dict | float | bytes) for value in values):
        raise UserError(
            f"the column '{column}' of {name} does not contain labels but {table.features[column]}: name one of texts"
        )
    return Labels.of_texts(["" if value is None else str(value).strip() for value in values])


def published(name: str, table: Any, column: str) -> NDArray[np.int8]:
    """The split that a column gives each row, see `bench.data.splits`. Raises UserError naming the row."""
    _column(name, "split_column", column, [], table.features)
    values = table.with_format("arrow")[:][column].to_pylist()
    codes = {}
    for row, value in enumerate(values):
        if value not in codes:
            try:
                codes[value] = splits.code(str(value))
            except LookupError as error:
                raise UserError(f"{name}, row {row}: the split {error}") from error
    return np.array([codes[value] for value in values], dtype=np.int8)


def joined(name: str, tables: Sequence[Any]) -> Any:
    """One table of the rows of all. Raises UserError if their columns differ."""
    if len(tables) == 1:
        return tables[0]
    from datasets import concatenate_datasets

    try:
        return concatenate_datasets(list(tables))
    except Exception as error:  # of the library, which raises many kinds
        raise UserError(f"the splits of {name} have different columns ({error}): give splits that have the same") from error


def not_downloaded(table: Any, image: str) -> NDArray[np.bool_]:
    """The rows of an img2dataset table that say so: bool (n,)."""
    if "status" not in table.features or image == "status":
        return np.zeros(len(table), dtype=np.bool_)
    values = table.with_format("arrow")[:]["status"].to_pylist()
    known = {value for value in values if value in ("success", "failed_to_download", "failed_to_resize")}
    return np.array([bool(known) and value != "success" for value in values], dtype=np.bool_)
