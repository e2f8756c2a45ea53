"""MS-COCO captions, and any data set in its layout. Lin et al., ECCV 2014; Chen et al., arXiv 1504.00325."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Findings, Pairs, Task, Vocabulary
from bench.api.plugin import Params as PluginParams
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, Selection, readable
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"mscoco 1, {PIXELS}"
TASK_TRAIN_IMAGES = 20_000
_DOWNLOAD = "get the annotations and images of https://cocodataset.org"


class MSCOCOParams(PluginParams):
    year: Literal["auto", "2014", "2017"] = Field(default="auto", description="release; auto prefers 2017")
    on_error: OnError = Field(default="error", description="skip leaves out missing, unreadable and captionless images")
    caption_seed: int = Field(default=0, description="chooses the one caption of each image")


@dataclass(frozen=True)
class _Image:
    id: int
    uid: str
    path: str
    captions: tuple[str, ...]


@register_dataset("mscoco")
class MSCOCO(Dataset):
    """MS-COCO captions: photographs with one of their captions each, chosen at random.

    train: the train split. holdout and test: two halves of the val split. The classes are ImageNet's; an image is a
    member of those that any of its captions mentions. Task `objects`: the category, categories of one name merged, that
    covers the largest area of an image, crowds left out; at most 20,000 training images.
    """

    Params = MSCOCOParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/annotations/captions_{train,val}YEAR.json beside ROOT/{train,val}YEAR/; see `Dataset.open`."""
        assert isinstance(params, MSCOCOParams)
        source = _Source(_root(place), params, image_size, place.findings)
        train, val = source.images("train"), source.images("val")
        labels = {split: source.labels(split) for split in ("train", "val")}
        fingerprint = source.digest.hexdigest()
        sides = np.random.default_rng(0).permutation(len(val)) < len(val) // 2
        parts = {
            "train": train,
            "holdout": [image for image, held in zip(val, sides, strict=True) if held],
            "test": [image for image, held in zip(val, sides, strict=True) if not held],
        }
        if params.on_error == "skip":
            parts = {name: _keep(part, source.faults, place.cache, fingerprint, name) for name, part in parts.items()}
        for name, part in parts.items():
            if not part:
                raise UserError(f"{source.root} has no images for the part '{name}': {_DOWNLOAD}")
        pairs = {name: _pairs(part, image_size, params.caption_seed) for name, part in parts.items()}
        task = _task(parts, pairs, labels["train"], labels["val"])
        missing = [str(source.annotations(f"instances_{split}")) for split, found in labels.items() if not found]
        return DatasetBundle(
            fingerprint,
            image_size,
            imagenet(),
            pairs["train"],
            pairs["holdout"],
            pairs["test"],
            tasks=(task,) if task else (),
            task_reason="" if task else _why_no_task(missing),
            facts={"year": source.year, **source.faults.facts},
        )


class _Source:
    """The files of one release: validates them, and digests what it reads."""

    def __init__(self, root: Path, params: MSCOCOParams, image_size: int, findings: Findings | None) -> None:
        self.root = root
        self.year = _year(root) if params.year == "auto" else params.year
        self.faults = Faults(params.on_error, ("missing", "unreadable", "captionless"), findings)
        identity = {**params.model_dump(), "year": self.year, "image_size": image_size, "format": FORMAT}
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())

    def annotations(self, kind: str) -> Path:
        return self.root / "annotations" / f"{kind}{self.year}.json"

    def images(self, split: str) -> list[_Image]:
        """Images on disk with a caption, in the order of the annotation file."""
        file, folder = self.annotations(f"captions_{split}"), self.root / f"{split}{self.year}"
        table = self._read(file)
        names = _names(file, table)
        captions = _captions(file, table, names)
        for image_id in [image_id for image_id in names if image_id not in captions]:
            self.faults.note("captionless", f"{file}: image {image_id} has no caption; add one")
            del names[image_id]
        sizes = _sizes(folder, set(names.values()))
        missing = [name for name in names.values() if name not in sizes]
        if missing:
            problem = f"{folder} lacks {len(missing)} of the images that {file} lists, the first {missing[0]}"
            self.faults.note("missing", f"{problem}; restore them", len(missing))
        self.digest.update(json.dumps(sorted(sizes.items())).encode())
        return [
            _Image(image_id, f"{folder.name}/{name}", os.path.join(folder, name), tuple(captions[image_id]))
            for image_id, name in names.items()
            if name in sizes
        ]

    def labels(self, split: str) -> dict[int, str]:
        """The dominant category of each image that has one; empty without an instances file."""
        file = self.annotations(f"instances_{split}")
        if not file.exists():
            return {}
        table = self._read(file)
        rows = _rows(file, table, "categories", {"id": int, "name": str})
        categories = {row["id"]: row["name"] for _, row in rows}
        areas: dict[int, Counter[str]] = defaultdict(Counter)
        for where, row in _rows(file, table, "annotations", {"image_id": int, "category_id": int, "area": (int, float)}):
            if row["category_id"] not in categories:
                raise UserError(f"{where}: there is no category {row['category_id']}; mend or download the file again")
            if not (math.isfinite(row["area"]) and row["area"] >= 0):
                raise UserError(f"{where}: the area is {row['area']}; mend or download the file again")
            if not row.get("iscrowd"):
                areas[row["image_id"]][categories[row["category_id"]]] += row["area"]
        return {image: min(found, key=lambda name: (-found[name], name)) for image, found in areas.items()}

    def _read(self, file: Path) -> Any:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}): {_DOWNLOAD}") from error
        self.digest.update(hashlib.sha256(content).digest())
        try:
            return json.loads(content, object_hook=_without_outlines)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is not whole JSON ({error}): download it again") from error


def _without_outlines(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("segmentation", None)
    return row


def _root(place: DataPlace) -> Path:
    if place.root is None:
        raise UserError("the data set mscoco needs --data-root: the folder that holds annotations/ and train2017/")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is no folder: give the one that holds annotations/ and train2017/")
    return place.root


def _year(root: Path) -> Literal["2014", "2017"]:
    folder = root / "annotations"
    if (folder / "captions_train2017.json").exists():
        return "2017"
    if (folder / "captions_train2014.json").exists():
        return "2014"
    raise UserError(f"{folder} holds neither captions_train2017.json nor captions_train2014.json: {_DOWNLOAD}")


def _rows(file: Path, table: Any, key: str, fields: dict[str, type | tuple[type, ...]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a list in an annotation file with a name for each, after checking the types of their fields."""
    rows = table.get(key) if isinstance(table, dict) else None
    if not isinstance(rows, list):
        raise UserError(f"{file} has no list '{key}': it is not in COCO's format, {_DOWNLOAD}")
    for number, row in enumerate(rows):
        where = f"{file}: {key}[{number}]"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object; mend or download the file again")
        for name, kind in fields.items():
            if not isinstance(row.get(name), kind) or isinstance(row[name], bool):
                problem = "is missing" if name not in row else f"is {json.dumps(row[name])[:80]}"
                raise UserError(f"{where}: the field '{name}' {problem}; mend or download the file again")
        yield where, row


def _names(file: Path, table: Any) -> dict[int, str]:
    names: dict[int, str] = {}
    seen: set[str] = set()
    for where, row in _rows(file, table, "images", {"id": int, "file_name": str}):
        if row["id"] in names:
            raise UserError(f"{where}: the image id {row['id']} occurs twice; remove one of them")
        if row["file_name"] in seen:
            raise UserError(f"{where}: the file {row['file_name']} occurs twice; remove one of them")
        names[row["id"]] = row["file_name"]
        seen.add(row["file_name"])
    return names


def _captions(file: Path, table: Any, names: dict[int, str]) -> dict[int, list[str]]:
    captions: dict[int, list[str]] = defaultdict(list)
    for where, row in _rows(file, table, "annotations", {"image_id": int, "caption": str}):
        if row["image_id"] not in names:
            raise UserError(f"{where}: there is no image {row['image_id']}; remove the annotation or list its image")
        if caption := row["caption"].strip():
            captions[row["image_id"]].append(caption)
    return dict(captions)


def _sizes(folder: Path, names: set[str]) -> dict[str, int]:
    """Sizes in bytes of those of the named files that exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.name in names and entry.is_file()}
    except OSError as error:
        raise UserError(f"the image folder {folder} cannot be read ({error.strerror}): {_DOWNLOAD}") from error


def _keep(images: list[_Image], faults: Faults, cache: Path | None, fingerprint: str, part: str) -> list[_Image]:
    note = cache / f"readable-{fingerprint}-{part}.json" if cache else None
    fine = readable([image.path for image in images], note)
    faults.note("unreadable", "", fine.count(False))
    return [image for image, reads in zip(images, fine, strict=True) if reads]


def _pairs(images: list[_Image], image_size: int, caption_seed: int) -> Pairs:
    mentions = MentionIndex(imagenet().names)
    return Pairs(
        uids=[image.uid for image in images],
        captions=[_choose(image, caption_seed) for image in images],
        images=ImageFiles([image.path for image in images], image_size),
        members=[mentions.members(*image.captions) for image in images],
    )


def _choose(image: _Image, seed: int) -> str:
    """One of the captions at random; depends on nothing but the seed, the image's id and its captions."""
    draw = hashlib.sha256(f"{seed} {image.id}".encode()).digest()
    return image.captions[int.from_bytes(draw[:8]) % len(image.captions)]


def _task(parts: dict[str, list[_Image]], pairs: dict[str, Pairs], train: dict[int, str], val: dict[int, str]) -> Task | None:
    """The task `objects`, or None where train and test share fewer than two categories."""
    learnt = [row for row, image in enumerate(parts["train"]) if image.id in train]
    if len(learnt) > TASK_TRAIN_IMAGES:
        learnt = sorted(np.random.default_rng(0).permutation(learnt)[:TASK_TRAIN_IMAGES].tolist())
    tested = [row for row, image in enumerate(parts["test"]) if image.id in val]
    train_names = [train[parts["train"][row].id] for row in learnt]
    test_names = [val[parts["test"][row].id] for row in tested]
    names = sorted(set(train_names) & set(test_names))
    if len(names) < 2:
        return None
    train_images, train_labels = _labelled(pairs["train"], learnt, train_names, names)
    test_images, test_labels = _labelled(pairs["test"], tested, test_names, names)
    vocabulary = Vocabulary(tuple(names), imagenet().templates)
    return Task("objects", vocabulary, train_images, train_labels, test_images, test_labels)


def _labelled(pairs: Pairs, rows: Sequence[int], labels: Sequence[str], names: Sequence[str]) -> tuple[Selection, np.ndarray]:
    index = {name: position for position, name in enumerate(names)}
    kept = [(row, index[label]) for row, label in zip(rows, labels, strict=True) if label in index]
    return Selection(pairs.images, [row for row, _ in kept]), np.array([label for _, label in kept], dtype=np.int64)


def _why_no_task(missing: Sequence[str]) -> str:
    if missing:
        return f"no labels: {' and '.join(missing)} missing"
    return "fewer than two object categories are in both the training and the test images"
