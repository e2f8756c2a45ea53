"""MS-COCO captions (Lin et al., ECCV 2014; Chen et al., arXiv 1504.00325), and any data set in its layout."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Findings, Pairs, Vocabulary
from bench.api.plugin import Params as PluginParams
from bench.data import classes, duplicates, json_rows
from bench.data.classes import ClassParams
from bench.data.coco_objects import objects_task, shown_classes
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, file_size, readable
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"mscoco 2, {PIXELS}"
_KINDS = ("missing", "unreadable", "duplicate", "captionless", "malformed")
_DOWNLOAD = "get the annotations and images of https://cocodataset.org"

_Id = int | str


class MSCOCOParams(ClassParams):
    year: Literal["auto", "2014", "2017"] = Field(default="auto", description="release; auto prefers 2017")
    on_error: OnError = Field(default="error", description="skip drops what is missing, unreadable or malformed")
    caption_seed: int = Field(default=0, description="seed for choosing one caption of each image")


@dataclass(frozen=True)
class _Image:
    id: _Id
    uid: str
    path: str
    size: int
    captions: tuple[str, ...]


@register_dataset("mscoco")
class MSCOCO(Dataset):
    """MS-COCO captions: photographs, each with one of its captions, chosen at random.

    train: the train split. holdout and test: two halves of the val split, without images that are also in train; val images
    with the same bytes are in one half. An image shows the classes that any of its captions mentions and, unless these are
    ImageNet's, those that its objects name. Task `objects`: the category that covers the largest area of an image, without
    crowds and with categories of equal name merged; at most 20,000 training images. With a list of classes, only categories
    in the list count.
    """

    citations = ("lin2014coco", "chen2015cococaptions")
    Params = MSCOCOParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/annotations/captions_{train,val}YEAR.json and ROOT/{train,val}YEAR/; see `Dataset.open`."""
        assert isinstance(params, MSCOCOParams)
        source = _Source(_root(place), params, image_size, place.findings)
        train, val = source.images("train"), source.images("val")
        objects = {split: source.objects(split) for split in ("train", "val")}
        vocabulary = classes.vocabulary(params.classes, source.root, sorted(source.categories) or None)
        if spoken := classes.identity(vocabulary):
            source.digest.update(json.dumps(spoken).encode())
        fingerprint = source.digest.hexdigest()
        holdout, test = _halves(train, val)
        parts = {"train": train, "holdout": holdout, "test": test}
        repeats = len(val) - len(holdout) - len(test)
        if params.on_error == "skip":
            parts = {name: _readable(part, source.faults, place.cache, fingerprint, name) for name, part in parts.items()}
        for name, part in parts.items():
            if not part:
                raise UserError(f"{source.root} has no images for the part '{name}': {_DOWNLOAD}")
        shown = {split: shown_classes(found, vocabulary) if spoken else {} for split, found in objects.items()}
        pairs = {
            name: _pairs(part, image_size, params.caption_seed, vocabulary, shown["train" if name == "train" else "val"])
            for name, part in parts.items()
        }
        own = vocabulary if spoken and params.classes != classes.CATEGORIES else None
        ids = {name: [image.id for image in part] for name, part in parts.items()}
        task = objects_task(ids, pairs, objects["train"], objects["val"], own)
        missing = [str(source.annotations(f"instances_{split}")) for split, found in objects.items() if not found]
        return DatasetBundle(
            fingerprint,
            image_size,
            vocabulary,
            pairs["train"],
            pairs["holdout"],
            pairs["test"],
            tasks=(task,) if task else (),
            task_reason="" if task else _why_no_task(missing),
            facts={"year": source.year, "val_images_in_train": repeats, **source.faults.facts},
        )


class _Source:
    """Reads, validates and digests the files of one release."""

    def __init__(self, root: Path, params: MSCOCOParams, image_size: int, findings: Findings | None) -> None:
        self.root = root
        self.year = _year(root) if params.year == "auto" else params.year
        self.faults = Faults(params.on_error, _KINDS, findings)
        identity = {**params.model_dump(exclude={"classes"}), "year": self.year, "image_size": image_size, "format": FORMAT}
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
        self.categories: set[str] = set()

    def annotations(self, kind: str) -> Path:
        return self.root / "annotations" / f"{kind}{self.year}.json"

    def images(self, split: str) -> list[_Image]:
        """The images that have a file and a caption, in the order of the annotation file."""
        file, folder = self.annotations(f"captions_{split}"), self.root / f"{split}{self.year}"
        table = self._read(file)
        names = _names(file, table, self.faults)
        captions = _captions(file, table, names, self.faults)
        found, missing = [], []
        if not folder.is_dir():
            raise UserError(f"the image folder {folder} is missing: {_DOWNLOAD}")
        for image_id, name in names.items():
            if image_id not in captions:
                self.faults.note("captionless", f"{file}: image {image_id} has no caption; add one")
            elif located := _located(folder, name):
                uid, size = located
                found.append(_Image(image_id, uid, str(self.root / uid), size, tuple(captions[image_id])))
            else:
                missing.append(name)
        if missing:
            problem = f"{folder} lacks {len(missing)} of the images that {file} lists, the first {missing[0]}"
            self.faults.note("missing", f"{problem}; restore them", len(missing))
        self.digest.update(json.dumps(sorted((image.uid, image.size) for image in found)).encode())
        return found

    def objects(self, split: str) -> dict[_Id, tuple[str, ...]]:
        """The categories of each image, largest area first; empty without an instances file."""
        file = self.annotations(f"instances_{split}")
        if not file.exists():
            return {}
        table, faults = self._read(file), self.faults
        named = {"id": json_rows.identifier, "name": json_rows.text}
        categories = {row["id"]: row["name"] for _, row in json_rows.rows(file, table, "categories", named, faults)}
        self.categories.update(categories.values())
        areas: dict[_Id, Counter[str]] = defaultdict(Counter)
        fields = {"image_id": json_rows.identifier, "category_id": json_rows.identifier, "area": json_rows.amount}
        for where, row in json_rows.rows(file, table, "annotations", fields, faults):
            if row["category_id"] not in categories:
                faults.note("malformed", f"{where}: there is no category {row['category_id']}; {json_rows.REMEDY}")
            elif not row.get("iscrowd"):
                areas[row["image_id"]][categories[row["category_id"]]] += row["area"]
        return {image: tuple(sorted(found, key=lambda name: (-found[name], name))) for image, found in areas.items()}

    def _read(self, file: Path) -> Any:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}): {_DOWNLOAD}") from error
        self.digest.update(hashlib.sha256(content).digest())
        try:
            return json.loads(content, object_hook=_without_outlines)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} is not complete JSON ({error}): download it again") from error


def _without_outlines(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("segmentation", None)
    return row


def _root(place: DataPlace) -> Path:
    if place.root is None:
        raise UserError("the data set mscoco needs --data-root: the folder that contains annotations/ and train2017/")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is not a folder: give the one that contains annotations/ and train2017/")
    return place.root


def _year(root: Path) -> Literal["2014", "2017"]:
    folder = root / "annotations"
    if (folder / "captions_train2017.json").exists():
        return "2017"
    if (folder / "captions_train2014.json").exists():
        return "2014"
    raise UserError(f"{folder} contains neither captions_train2017.json nor captions_train2014.json: {_DOWNLOAD}")


def _names(file: Path, table: Any, faults: Faults) -> dict[_Id, str]:
    names: dict[_Id, str] = {}
    seen: set[str] = set()
    for where, row in json_rows.rows(file, table, "images", {"id": json_rows.identifier, "file_name": json_rows.text}, faults):
        name = os.path.normpath(row["file_name"])
        if row["id"] in names:
            faults.note("duplicate", f"{where}: the image id {row['id']} occurs twice; remove one of them")
        elif name in seen:
            faults.note("duplicate", f"{where}: the file {name} occurs twice; remove one of them")
        else:
            names[row["id"]] = name
            seen.add(name)
    return names


def _captions(file: Path, table: Any, names: dict[_Id, str], faults: Faults) -> dict[_Id, list[str]]:
    captions: dict[_Id, list[str]] = defaultdict(list)
    for where, row in json_rows.rows(
        file, table, "annotations", {"image_id": json_rows.identifier, "caption": json_rows.text}, faults
    ):
        if row["image_id"] not in names:
            problem = f"{where}: there is no image {row['image_id']}; remove the annotation or list its image once"
            faults.note("malformed", problem)
        elif caption := row["caption"].strip():
            captions[row["image_id"]].append(caption)
    return dict(captions)


def _located(folder: Path, name: str) -> tuple[str, int] | None:
    """The path, relative to the root, and the size in bytes of a file listed for `folder`; None if it does not exist.

    Names are relative to the folder, or to the root if they start with the folder's name.
    """
    if name.startswith(("/", "..")):
        return None
    for uid in (f"{folder.name}/{name}", name):
        if uid.startswith(f"{folder.name}/") and (size := file_size(folder.parent / uid)) >= 0:
            return uid, size
    return None


def _halves(train: list[_Image], val: list[_Image]) -> tuple[list[_Image], list[_Image]]:
    """holdout and test: half of the val images each, split by content, without those that are in train."""
    images = [*train, *val]
    sizes = np.array([image.size for image in images], dtype=np.int64)
    halves = duplicates.holdout_and_test(
        len(train), sizes, lambda row, start, count: duplicates.read_bytes(images[row].path, start, count), 0
    )
    holdout, test = ([val[row] for row in rows.tolist()] for rows in halves)
    return holdout, test


def _readable(images: list[_Image], faults: Faults, cache: Path | None, fingerprint: str, part: str) -> list[_Image]:
    cached = cache / f"readable-{fingerprint}-{part}.npy" if cache else None
    fine = readable([image.path for image in images], cached)
    faults.note("unreadable", "", fine.count(False))
    return [image for image, reads in zip(images, fine, strict=True) if reads]


def _pairs(
    images: list[_Image], image_size: int, caption_seed: int, vocabulary: Vocabulary, shown: Mapping[_Id, Sequence[int]]
) -> Pairs:
    mentions = MentionIndex.of(vocabulary)
    members = [dict.fromkeys((*shown.get(image.id, ()), *mentions.members(*image.captions))) for image in images]
    return Pairs(
        uids=[image.uid for image in images],
        captions=[_choose(image, caption_seed) for image in images],
        images=ImageFiles([image.path for image in images], image_size),
        members=[tuple(each) for each in members],
    )


def _choose(image: _Image, seed: int) -> str:
    """One of the captions at random, determined by the seed, the image's id and its captions."""
    draw = hashlib.sha256(f"{seed} {image.id}".encode()).digest()
    return image.captions[int.from_bytes(draw[:8]) % len(image.captions)]


def _why_no_task(missing: Sequence[str]) -> str:
    if missing:
        return f"no labels: {' and '.join(missing)} missing"
    return "fewer than two object categories are in both the training and the test images"
